"""When the density arrived at its target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["mean_of_last_third", "settling_frame"]


def settling_frame(
    density: npt.NDArray[np.float64],
    target: float,
    *,
    tolerance: float = 0.15,
    window_frames: int = 100,
) -> int | None:
    """First frame from which the running mean stays within the tolerance to the end.

    Parameters
    ----------
    density
        (n,) one value per frame; NaN are left out of the means.
    target
        Wanted density, same unit.
    tolerance
        Relative.
    window_frames
        Frames per running mean: a single frame's count is mostly Poisson noise. Keep
        it well above the emitters' on-time.

    Returns
    -------
    int or None
        Row of the first frame of the first window that is in and stays in; None when
        the last window is out, or there are fewer frames than a window.
    """
    if target <= 0 or window_frames < 1 or density.size < window_frames:
        return None
    known = np.isfinite(density)
    total = np.cumsum(np.concatenate([[0.0], np.where(known, density, 0.0)]))
    number = np.cumsum(np.concatenate([[0], known]))
    sums = total[window_frames:] - total[:-window_frames]
    numbers = number[window_frames:] - number[:-window_frames]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.abs(sums / numbers / target - 1.0) <= tolerance
    outside = np.flatnonzero(~inside)
    first = 0 if outside.size == 0 else int(outside[-1]) + 1
    return first if first < inside.size else None


def mean_of_last_third(density: npt.NDArray[np.float64]) -> float | None:
    """Mean of the finite values of the last third (rounded up); None without any."""
    last = density[density.size - -(-density.size // 3) :]
    last = last[np.isfinite(last)]
    return float(last.mean()) if last.size else None
