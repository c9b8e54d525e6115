"""What a window around one emitter is expected to hold, and how that changes.

Design notes: a model knows its parameters, their limits and the derivatives of the
expected photons in windows that stay where they are. It knows no noise and no data;
`blinkloop.fitting` does.

Shapes: E windows of h x w px, P parameters. Position in px of the frame, x = column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.optics.gaussian import gaussian_lines

__all__ = ["FitPsf", "PsfModel", "WidthModel", "WindowModel"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_WIDTHS_PX = (0.4, 6.0)


class FitPsf(Protocol):
    """An image former that can be fitted; `GaussianPsf` and `SplinePsf` are such.

    One that offers `derivatives_in` as `GaussianPsf` does is fitted faster.
    """

    @property
    def z_range_nm(self) -> tuple[float, float]: ...

    def roi(self, x_px: Any, y_px: Any, z_nm: Any, photons: Any) -> Any: ...

    def derivatives(self, x_px: Any, y_px: Any, z_nm: Any, photons: Any) -> Any: ...


class WindowModel(Protocol):
    """Expected photons of one emitter in windows that stay where they are.

    `names` are the parameters between x, y and photons, background: parameter 0 is x,
    1 is y, the last but one photons, the last background.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def limits(self) -> tuple[list[float], list[float]]:
        """Lowest and highest value of each of `names`."""
        ...

    def starts(self) -> list[list[float]]:
        """Values of `names` to begin with, as many rows as are worth a look."""
        ...

    def derivatives(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, P, h, w) derivatives by each parameter; that by photons is the PSF."""
        ...

    def image(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, h, w) the PSF alone: what one photon gives."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PsfModel:
    """A known PSF, at a free or at a given z.

    Parameters
    ----------
    psf
        `GaussianPsf`, `SplinePsf` or the like.
    z_range_nm
        Limits of z; z is not fitted when both are the same.
    z_starts
        How many z are looked at before the fit.
    """

    psf: FitPsf
    z_range_nm: tuple[float, float]
    z_starts: int = 7

    @property
    def free_z(self) -> bool:
        """Whether z is fitted."""
        return self.z_range_nm[1] > self.z_range_nm[0]

    @property
    def names(self) -> tuple[str, ...]:
        """z, or nothing."""
        return ("z_nm",) if self.free_z else ()

    def limits(self) -> tuple[list[float], list[float]]:
        """The range of z."""
        low, high = self.z_range_nm
        return ([low], [high]) if self.free_z else ([], [])

    def starts(self) -> list[list[float]]:
        """Centres of equal parts of the range of z."""
        if not self.free_z:
            return [[]]
        low, high = self.z_range_nm
        parts = (np.arange(self.z_starts) + 0.5) / self.z_starts
        return [[float(low + part * (high - low))] for part in parts]

    def derivatives(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, 5 or 4, h, w)."""
        x, y, photons = theta[:, 0], theta[:, 1], theta[:, -2]
        z = theta[:, 2] if self.free_z else np.full_like(x, self.z_range_nm[0])
        drawn = _derivatives_in(self.psf, (x, y, z, photons), column, row, shape)
        return drawn if self.free_z else drawn[:, [0, 1, 3, 4]]

    def image(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, h, w)."""
        x, y = theta[:, 0], theta[:, 1]
        z = theta[:, 2] if self.free_z else np.full_like(x, self.z_range_nm[0])
        drawn, first_column, first_row = self.psf.roi(x, y, z, np.ones_like(x))
        place = (row - first_row, column - first_column)
        return _moved(np.asarray(drawn, np.float64)[:, None], *place, shape)[:, 0]


@dataclass(frozen=True, slots=True)
class WidthModel:
    """A Gaussian of unknown width: for microscopes whose PSF nobody has measured.

    Parameters
    ----------
    separate
        One width along x and one along y (astigmatism), not one for both.
    """

    separate: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The width, or the two."""
        return ("sigma_x_px", "sigma_y_px") if self.separate else ("sigma_x_px",)

    def limits(self) -> tuple[list[float], list[float]]:
        """Widths that can be told from a hot pixel and from background."""
        low, high = _WIDTHS_PX
        return [low] * len(self.names), [high] * len(self.names)

    def starts(self) -> list[list[float]]:
        """From sharp to broad; when separate, broad along x and along y too."""
        if self.separate:
            return [[1.1, 1.1], [1.2, 2.4], [2.4, 1.2], [2.2, 2.2]]
        return [[0.9], [1.3], [2.0], [3.0]]

    def derivatives(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, 5 or 6, h, w)."""
        sigma_x = theta[:, 2]
        sigma_y = theta[:, 3] if self.separate else sigma_x
        across, across_x, across_s = gaussian_lines(
            theta[:, 0], sigma_x, column, shape[1]
        )
        down, down_y, down_s = gaussian_lines(theta[:, 1], sigma_y, row, shape[0])
        n = theta[:, -2:-1]
        by_sigma_x = _outer(n * down, across_s)
        by_sigma_y = _outer(n * down_s, across)
        widths = (
            [by_sigma_x, by_sigma_y] if self.separate else [by_sigma_x + by_sigma_y]
        )
        psf = _outer(down, across)
        return np.stack(
            [
                _outer(n * down, across_x),
                _outer(n * down_y, across),
                *widths,
                psf,
                np.ones_like(psf),
            ],
            1,
        )

    def image(
        self, theta: Floats, column: Integers, row: Integers, shape: tuple[int, int]
    ) -> Floats:
        """(E, h, w)."""
        sigma_y = theta[:, 3] if self.separate else theta[:, 2]
        across, _, _ = gaussian_lines(theta[:, 0], theta[:, 2], column, shape[1])
        down, _, _ = gaussian_lines(theta[:, 1], sigma_y, row, shape[0])
        return _outer(down, across)


def _moved(
    drawn: Floats, down: Integers, right: Integers, shape: tuple[int, int]
) -> Floats:
    """(E, P, h, w), so far into (E, P, rows, columns); 0 beyond their edges."""
    rows = down[:, None] + np.arange(shape[0])
    columns = right[:, None] + np.arange(shape[1])
    count, parameters, height, width = drawn.shape
    inside = ((rows >= 0) & (rows < height))[:, :, None] & (
        (columns >= 0) & (columns < width)
    )[:, None, :]
    place = (
        np.clip(rows, 0, height - 1)[:, :, None] * width
        + np.clip(columns, 0, width - 1)[:, None, :]
    )
    pixels = shape[0] * shape[1]
    flat = drawn.reshape(count, parameters, height * width)
    moved: Floats = np.take_along_axis(flat, place.reshape(count, 1, pixels), axis=2)
    moved *= inside.reshape(count, 1, pixels)
    return moved.reshape(count, parameters, *shape)


def _outer(down: Floats, across: Floats) -> Floats:
    """(E, h) and (E, w) to (E, h, w)."""
    product: Floats = down[:, :, None] * across[:, None, :]
    return product


def _derivatives_in(
    psf: FitPsf,
    values: tuple[Floats, ...],
    column: Integers,
    row: Integers,
    shape: tuple[int, int],
) -> Floats:
    """(E, 5, h, w): the PSF's own windows, moved into windows that stay."""
    direct = getattr(psf, "derivatives_in", None)
    if direct is not None:
        drawn: Floats = direct(*values, column, row, shape)
        return drawn
    _, first_column, first_row = psf.roi(*values)
    drawn = np.asarray(psf.derivatives(*values), np.float64)
    moved = _moved(drawn, row - first_row, column - first_column, shape)
    moved[:, 4] = 1.0
    return moved
