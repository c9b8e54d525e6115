"""The density of active emitters after one frame, as a record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DensityEstimate"]


@dataclass(slots=True)
class DensityEstimate:
    """Density of active emitters after one frame, per um^2. Not to be changed.

    Parameters
    ----------
    index, timestamp_s
        Of the frame.
    per_um2, sd_per_um2
        This frame alone; the SD is the network's doubt about this frame's emitters.
        NaN when the network's output is not finite or the region lies off the image.
    smoothed_per_um2, smoothed_sd_per_um2
        Mean over the frames kept; the SD is that of the *expected* density (network's
        doubt and counting noise, frames being correlated through the on-time). NaN
        when no frame is kept.
    crowding_per_um2
        Largest density of any 8 x 8 px block, averaged over the frames kept (late: over
        those before this one); NaN when there is none.
    n_frames
        Frames kept in the average.
    overlap
        Emitters per emitter counted, at least 1: the densities of the whole region
        contain it, the crowding does not.
    """

    index: int
    timestamp_s: float
    per_um2: float
    sd_per_um2: float
    smoothed_per_um2: float
    smoothed_sd_per_um2: float
    crowding_per_um2: float
    n_frames: int
    overlap: float = 1.0
