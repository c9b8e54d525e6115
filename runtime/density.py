"""Density of active emitters from the network's own probabilities.

The number of emitters in a frame is estimated as sum p (Speiser et al. 2021,
doi:10.1038/s41592-021-01236-x) with variance sum p (1 - s), s = p plus its four
neighbours, at most 1: adjacent pixels that share one emitter exclude each other, which
sum p (1 - p) ignores. Measured, with `astigmatic-small`: squared errors of 0.6 to 1.2
times that variance at 0.05 to 2 emitters per um^2, of 0.13 to 0.65 times sum p (1 - p).
No threshold is involved, so the estimate works down to zero and does not saturate where
spot counters do. What neighbours hide from it on a structured sample is put back
(`density_overlap.py`).

Design notes
------------
The estimator knows nothing of targets, lasers or time constants of a controller. It
averages with **finite memory** (the last `average_frames` frame numbers): a controller
that waits longer than that after a command sees nothing of the time before it.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.runtime.crowding import Crowding
from blinkloop.runtime.density_blocks import BLOCK_PX
from blinkloop.runtime.density_estimate import DensityEstimate
from blinkloop.runtime.density_overlap import OVERLAP_PX, Overlap
from blinkloop.runtime.on_time import OnTimeMeter, effective_frames
from blinkloop.runtime.records import FrameResult, Gap, Roi

__all__ = [
    "BLOCK_PX",
    "DensityEstimate",
    "DensityEstimator",
    "probability_floor",
]


_Blocks = npt.NDArray[np.float64]

_NEW_ON_TIME = 0.1
"""Smaller changes of its logarithm are not worth the trouble."""


def probability_floor(logit_clamp: float) -> float:
    """Smallest p of a network with clamped logits: sigmoid(-logit_clamp).

    Clamp 8 gives 3.35e-4 per pixel: 0.034 emitters per um^2 at 100 nm pixels that are
    not there.
    """
    return 1.0 / (1.0 + math.exp(logit_clamp))


class DensityEstimator:
    """Frame results in, density out.

    Parameters
    ----------
    pixel_size_nm
        Pixel size in the sample.
    average_frames
        Span of the average in frame numbers. Missing frames shorten the average; they
        are never bridged by older ones.
    on_time_frames
        Mean on-time; sets how far frames are correlated, hence the smoothed SD.
    learn_on_time
        That is where to begin; the detections tell (`on_time.py`).
    region
        Part of the chip to look at, in chip pixels; None = the whole image. Blocks
        that lie partly inside count by their share of area, so the edge is sharp to
        about a block.
    p_floor
        Probability the network never falls below (see `probability_floor`);
        subtracted per pixel.
    overlap_px
        How far an emitter hides others from the network; 0 = nothing is put back.
    crowding_late
        The crowding of an estimate is that of the frames before, worked out
        `afterwards`: it costs nothing while a laser waits.

    Raises
    ------
    InputError
        For values that cannot be used.
    """

    def __init__(
        self,
        pixel_size_nm: float,
        *,
        average_frames: int = 20,
        on_time_frames: float = 3.0,
        learn_on_time: bool = False,
        region: Roi | None = None,
        p_floor: float = 0.0,
        overlap_px: float = OVERLAP_PX,
        crowding_late: bool = False,
    ) -> None:
        if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
            raise InputError(
                f"density: the pixel size must be a positive number of nm, got "
                f"{pixel_size_nm!r}; without it there is no area; give --pixel-size-nm"
            )
        if average_frames < 1:
            raise InputError(
                f"density: average_frames must be at least 1, got {average_frames}"
            )
        if not (math.isfinite(on_time_frames) and on_time_frames > 0):
            raise InputError(
                f"density: on_time_frames must be positive, got {on_time_frames!r}"
            )
        if not 0.0 <= p_floor < 0.1:
            raise InputError(
                f"density: p_floor must lie in [0, 0.1), got {p_floor!r}; it is the "
                f"network's smallest probability, sigmoid(-logit_clamp)"
            )
        if not 0.0 <= overlap_px <= 8.0:
            raise InputError(
                f"density: overlap_px must lie in 0 .. 8, got {overlap_px!r}; it is "
                f"how far an emitter hides others, about the SD of a spot"
            )
        if region is not None and (region.width < 1 or region.height < 1):
            raise InputError(
                f"density: the region of interest is empty, got {region.width} x "
                f"{region.height} px; give a width and a height of at least 1"
            )
        self._pixel_um2 = (pixel_size_nm * 1e-3) ** 2
        self._average_frames = int(average_frames)
        self._region = region
        self._p_floor = float(p_floor)
        self._overlap = Overlap(on_time_frames, overlap_px) if overlap_px > 0 else None
        self._meter = OnTimeMeter() if learn_on_time else None
        self._unplaced: FrameResult | None = None
        # A region's count is made of blocks, so they cannot wait.
        self._late = crowding_late and region is None
        self._roi: Roi | None = None
        self._field: Roi | None = None
        self._area_px = self._area_um2 = 0.0
        # Of the frames kept; the crowding keeps their blocks.
        self._indices: deque[int] = deque()
        self._counts: deque[float] = deque()
        self._variances: deque[float] = deque()
        self._crowding: Crowding | None = None
        self._crowding_per_um2 = math.nan
        self._unadded: npt.NDArray[np.floating] | None = None
        self._set_on_time(float(on_time_frames))

    @property
    def region(self) -> Roi | None:
        """Region of interest in chip pixels; None = the whole image."""
        return self._region

    @property
    def average_frames(self) -> int:
        """Span of the average in frame numbers."""
        return self._average_frames

    @property
    def on_time_frames(self) -> float:
        """Mean on-time, as given or as learned."""
        return self._on_time_frames

    @property
    def on_time_known(self) -> bool:
        """Whether it was learned."""
        return self._meter is not None and self._meter.frames is not None

    def reset(self) -> None:
        """Forget all frames."""
        self._forget_all()
        if self._overlap is not None:
            self._overlap.reset()
        if self._meter is not None:
            self._meter.reset()

    def count_as_seen(self) -> None:
        """Put nothing back any more: a number copied from the sample lacks it, too."""
        self._overlap = None

    def gap(self, gap: Gap) -> None:
        """Frames are missing: what is older than the span before their end goes."""
        self._add_late()
        self._forget_before(gap.first + gap.count - self._average_frames)

    def update(self, result: FrameResult) -> DensityEstimate:
        """Density after one more frame.

        Raises
        ------
        InputError
            When `block_mean` does not have the shape its ROI asks for.
        """
        roi, index = result.roi, result.index
        if roi is not self._roi and roi != self._roi:
            self._set_roi(roi)
        indices = self._indices
        if indices and index <= indices[-1]:
            self.reset()  # the camera started counting anew
        crowding, block_mean = self._crowding, result.block_mean
        assert crowding is not None  # made with the image
        if block_mean.shape != crowding.shape:
            raise InputError(
                f"density: frame {index} has block sums of shape "
                f"{block_mean.shape}, but an image of {roi.width} x "
                f"{roi.height} px has {crowding.shape}; the model file was "
                f"made by another version, export it again"
            )
        self._add_late()
        oldest = index - self._average_frames + 1
        if not indices or indices[0] < oldest:
            self._forget_before(oldest)
        blocks = None if self._late else crowding.above_floor(block_mean)
        count, variance = math.nan, math.nan
        if math.isfinite(np.add.reduce(block_mean, axis=None)):  # so is every block
            count, variance = self._count(result, crowding, blocks)
        if math.isfinite(count) and math.isfinite(variance):
            indices.append(index)
            self._counts.append(count)
            self._variances.append(variance)
            if blocks is None:
                self._unadded = block_mean
            else:
                crowding.add(blocks)
        elif blocks is not None:
            crowding.drop(blocks)
        if blocks is not None:
            self._crowding_per_um2 = crowding.per_um2()
        return self._estimate(result, count, variance)

    def _count(
        self, result: FrameResult, crowding: Crowding, blocks: _Blocks | None
    ) -> tuple[float, float]:
        """Emitters in the region and their variance; NaN when they cannot be known.

        The blocks are without the floor; None = not looked at.
        """
        whole, variance = float(result.count_mean), float(result.count_variance)
        if self._area_px <= 0 or not (math.isfinite(whole) and math.isfinite(variance)):
            return math.nan, math.nan
        roi, floor = result.roi, self._p_floor
        pixels = roi.width * roi.height
        variance -= floor * (1.0 - floor) * pixels
        count = whole - floor * pixels
        if self._region is not None and blocks is not None:
            part = crowding.part(blocks)
            # The graph gives one variance per frame: shared out by expected counts.
            variance *= min(max(part / count, 0.0), 1.0) if count > 0 else 0.0
            count = part
        return max(count, 0.0), max(variance, 0.0)

    def _estimate(
        self, result: FrameResult, count: float, variance: float
    ) -> DensityEstimate:
        area = self._area_um2
        factor = 1.0
        smoothed = smoothed_sd = math.nan
        n = len(self._counts)
        if n and area > 0:
            mean = math.fsum(self._counts) / n
            doubt = math.fsum(self._variances) / n
            n_eff = self._n_eff[n]
            factor = self._hidden(result, mean)
            # Counting noise: variance of the rate of a Poisson process after
            # mean * n_eff events under Jeffreys' prior, so that an empty field has an
            # uncertainty too. The network sees the same emitter in successive frames,
            # so its doubt is taken to be as correlated as the emitters (upper bound).
            smoothed = factor * mean / area
            smoothed_sd = math.sqrt((mean + 0.5 / n_eff + doubt) / n_eff) / area
            smoothed_sd *= factor
        return DensityEstimate(
            index=result.index,
            timestamp_s=result.timestamp_s,
            per_um2=factor * count / area if area > 0 else math.nan,
            sd_per_um2=factor * math.sqrt(variance) / area if area > 0 else math.nan,
            smoothed_per_um2=smoothed,
            smoothed_sd_per_um2=smoothed_sd,
            crowding_per_um2=self._crowding_per_um2,
            n_frames=n,
            overlap=factor,
        )

    def _hidden(self, result: FrameResult, mean: float) -> float:
        """Emitters per emitter counted."""
        self._learn()
        self._unplaced = result
        return 1.0 if self._overlap is None else self._overlap.factor(mean)

    def afterwards(self) -> None:
        """Do now what the next `update` would do first: add, forget, learn."""
        self._add_late()
        if self._indices:
            last = self._indices[-1]  # kept: a camera that starts anew is seen by it
            self._forget_before(min(last, last + 2 - self._average_frames))
        self._learn()

    def _learn(self) -> None:
        """Where the emitters of the last frame sit, and how long they stay."""
        result, self._unplaced = self._unplaced, None
        overlap, meter = self._overlap, self._meter
        if result is None or (overlap is None and meter is None):
            return
        found, field = result.localizations, self._field or result.roi
        where = result.index, field, found["x_px"], found["y_px"]
        if overlap is not None:
            overlap.take(*where)
        if meter is not None:
            frames = meter.take(*where) or self._on_time_frames
            if abs(math.log(frames / self._on_time_frames)) > _NEW_ON_TIME:
                self._set_on_time(frames)

    def _set_on_time(self, frames: float) -> None:
        self._on_time_frames = frames
        # n_eff for 0 .. average_frames frames, so that a frame costs a look-up.
        most = self._average_frames
        self._n_eff = [effective_frames(n, frames) for n in range(most + 1)]
        if self._overlap is not None:
            self._overlap.set_on_time(frames)

    def _add_late(self) -> None:
        """The last frame's blocks, if they are still to come."""
        late, self._unadded = self._unadded, None
        if late is not None and self._crowding is not None:
            self._crowding.add(self._crowding.above_floor(late))
            self._crowding_per_um2 = self._crowding.per_um2()

    def _forget_before(self, index: int) -> None:
        indices = self._indices
        while indices and indices[0] < index:
            indices.popleft()
            self._counts.popleft()
            self._variances.popleft()
            if self._crowding is not None:
                self._crowding.forget_oldest()

    def _forget_all(self) -> None:
        self._indices.clear()
        self._counts.clear()
        self._variances.clear()
        self._unplaced = self._unadded = None
        self._crowding_per_um2 = math.nan
        if self._crowding is not None:
            self._crowding.forget()

    def _set_roi(self, roi: Roi) -> None:
        """A new image: other blocks, other area; what was kept no longer fits."""
        self.reset()
        self._roi = roi
        self._field = roi if self._region is None else roi.common(self._region)
        self._crowding = Crowding(self._pixel_um2, self._p_floor, roi, self._region)
        self._area_px = self._crowding.area_px
        self._area_um2 = self._area_px * self._pixel_um2
