"""Spots that shine all the time: fiducial beads and dirt, not blinking emitters.

One bead gives as many frames as hundreds of emitters: counted with them it would make
the on-time and the density too large and the width that of the beads.

Shapes: C candidates.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.prefit.candidates import Candidates, disk
from blinkloop.training.prefit.chains import link

__all__ = ["standing_spots"]

Flags = npt.NDArray[np.bool_]

_SHARE = 0.8
"""Of a run's frames that a spot must be seen in; noise and neighbours hide some."""

_FEWEST_FRAMES = 10
_CHANCE = 0.05
"""Expected emitters that stay on for so long, above which none is taken for a bead."""


def standing_spots(
    candidates: Candidates, n_frames: int, shape: tuple[int, int], apart_px: int
) -> tuple[Flags, int]:
    """Candidates of spots that shine in nearly all frames of a run.

    None when emitters are on for so long that some of them would, too: as many as the
    mean length of the other groups of frames says.

    Parameters
    ----------
    candidates
        Of one run.
    n_frames, shape
        Frames of the run; rows and columns of a frame.
    apart_px
        Least distance of two candidates of a frame.

    Returns
    -------
    tuple
        (C,) flags, and the number of spots.
    """
    none = np.zeros(len(candidates), np.bool_)
    if n_frames < _FEWEST_FRAMES or not len(candidates):
        return none, 0
    ndimage = extras.require("scipy.ndimage", "Finding emitters", "train")
    count = np.zeros(shape)
    np.add.at(count, (candidates.row, candidates.column), 1.0)
    # Half the least distance: at most one candidate of a frame lies within.
    around = disk(max(apart_px // 2, 1)).astype(np.float64)
    seen = ndimage.convolve(count, around, mode="constant")
    core = seen >= _SHARE * n_frames
    if not core.any():
        return none, 0
    near = ndimage.binary_dilation(core, disk(apart_px))
    flags: Flags = near[candidates.row, candidates.column]
    if _expected(candidates, flags, n_frames, apart_px) > _CHANCE:
        return none, 0
    return flags, int(ndimage.label(near)[1])


def _expected(
    candidates: Candidates, flags: Flags, n_frames: int, apart_px: int
) -> float:
    """How many of the other emitters would stay on for the share of the run."""
    column, row = candidates.column.astype(float), candidates.row.astype(float)
    chains = link(
        candidates, column, row, n_frames, radius_px=2.0, isolation_px=apart_px
    )
    lengths = (chains.place[(chains.after < 0) & ~flags] + 1).astype(float)
    if not len(lengths):
        return 0.0
    # An emitter touches a frame more than it is on for.
    mean = max(float(lengths.mean()) - 1.0, 0.1)
    return len(lengths) * math.exp(-_SHARE * n_frames / mean)
