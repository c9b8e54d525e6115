"""What goes through a calibration from beads: stacks, settings, beads, windows.

Shapes: Z slices, H rows, W columns of a stack; B beads; h x w px of a window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from blinkloop.camera_facts import check_pixel_size
from blinkloop.errors import InputError

__all__ = ["Bead", "BeadSettings", "BeadStack", "DroppedBead", "Found"]

Floats = npt.NDArray[np.float64]

_FEWEST_SLICES = 5
_STEPS_NM = (1.0, 1000.0)
_LARGEST_SPAN_NM = 30_000.0
_SMALLEST_WINDOW_PX = 7


@dataclass(frozen=True, slots=True, eq=False)
class BeadStack:
    """One z-stack as the camera gave it.

    Parameters
    ----------
    pixels
        (Z, H, W) ADU, slices in the order of the file.
    name
        For messages, usually the file.
    origin
        Column and row on the chip of the first pixel.
    baseline_adu, photons_per_adu
        photons = (ADU - baseline_adu) * photons_per_adu.
    saturated_adu
        A pixel of this value or more is saturated; None: found from the values.

    Raises
    ------
    InputError
        When it is no stack that beads can be found in.
    """

    pixels: npt.NDArray[np.floating | np.integer]
    name: str = "stack"
    origin: tuple[int, int] = (0, 0)
    baseline_adu: float = 0.0
    photons_per_adu: float = 1.0
    saturated_adu: float | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3:
            raise InputError(
                f"{self.name}: a bead stack must be (slices, rows, columns), got the "
                f"shape {shape}; save it as a greyscale TIFF with one page per slice"
            )
        if shape[0] < _FEWEST_SLICES:
            raise InputError(
                f"{self.name}: {shape[0]} slice{'s' * (shape[0] != 1)}, but a PSF "
                f"needs at least {_FEWEST_SLICES} at known heights; record a z-stack "
                f"of beads (e.g. 41 slices, 50 nm apart)"
            )
        if min(shape[1:]) < _SMALLEST_WINDOW_PX:
            raise InputError(
                f"{self.name}: slices of {shape[2]} x {shape[1]} px are too small for "
                f"a bead and its surroundings; give a larger part of the camera"
            )
        if self.pixels.dtype.kind == "f" and not np.isfinite(self.pixels).all():
            raise InputError(
                f"{self.name}: some pixels are not finite numbers; replace them or "
                f"give the file as the camera recorded it"
            )

    def photons(self) -> npt.NDArray[np.float32]:
        """(Z, H, W) photons, in the order of the file."""
        adu = self.pixels.astype(np.float32)
        adu -= np.float32(self.baseline_adu)
        adu *= np.float32(self.photons_per_adu)
        return adu


@dataclass(frozen=True, slots=True)
class BeadSettings:
    """How beads become a PSF.

    Parameters
    ----------
    dz_nm
        Step of the stage between slices.
    pixel_size_nm
        Pixel in the sample.
    roi_px
        Side of the window around a bead, odd; None: chosen so that it holds the light.
    focus
        Which slice is z = 0: found ("auto"), the middle one, or its number from 0.
    falling
        The focus was moved down from slice to slice, not up: the last slice has the
        largest z.
    mirrored
        Mirror the stacks left to right first: the beads were read out through the other
        amplifier of an EMCCD than the movies.
    smooth_z_nm
        Height of a voxel; slices closer than that are averaged by a spline fit. None:
        the step, but not less than 75 nm.
    equal_light
        Scale every slice to hold the same light, for beads that bleach.
    correct_drift
        Take out a steady sideways motion of the light from slice to slice.
    frames_per_slice
        Frames at each height, one after the other; they are averaged. None: found.

    Raises
    ------
    InputError
        When a value cannot be.
    """

    dz_nm: float
    pixel_size_nm: float
    roi_px: int | None = None
    focus: Literal["auto", "middle"] | float = "auto"
    falling: bool = False
    mirrored: bool = False
    smooth_z_nm: float | None = None
    equal_light: bool = False
    correct_drift: bool = False
    frames_per_slice: int | None = None

    def __post_init__(self) -> None:
        low, high = _STEPS_NM
        if not low <= self.dz_nm <= high:
            raise InputError(
                f"a z step of {self.dz_nm:g} nm cannot be used (slices lie {low:g} to "
                f"{high:g} nm apart); give the step of the stage in nm, above 0, e.g. "
                f"--dz-nm 50, and --falling for a stage that moved the other way"
            )
        check_pixel_size(self.pixel_size_nm)
        if self.roi_px is not None and (
            self.roi_px < _SMALLEST_WINDOW_PX or self.roi_px % 2 == 0
        ):
            raise InputError(
                f"a window of {self.roi_px} px cannot be used; give an odd number of "
                f"at least {_SMALLEST_WINDOW_PX}"
            )
        if self.frames_per_slice is not None and self.frames_per_slice < 1:
            raise InputError(
                f"{self.frames_per_slice} frames at each height cannot be; give 1 or "
                f"more to --frames-per-slice, or leave it out"
            )
        if self.smooth_z_nm is not None and not 1 <= self.smooth_z_nm <= 1000:
            raise InputError(
                f"smoothing over {self.smooth_z_nm:g} nm cannot be done; give the "
                f"height of a voxel between 1 and 1000 nm"
            )

    def check(self, stack: BeadStack) -> None:
        """Whether the step can be that of this stack.

        Raises
        ------
        InputError
            When the stack would be thicker than any PSF, or the focus lies outside.
        """
        slices = stack.pixels.shape[0]
        span = (slices - 1) * self.dz_nm
        if span > _LARGEST_SPAN_NM:
            raise InputError(
                f"{stack.name}: {slices} slices {self.dz_nm:g} nm apart span "
                f"{span / 1000:.0f} um, more than any PSF reaches; check the z step "
                f"(in nm), or cut the stack to the slices around the focus"
            )
        if not isinstance(self.focus, str) and not 0 <= self.focus <= slices - 1:
            raise InputError(
                f"{stack.name}: focus in slice {self.focus:g}, but the slices are 0 to "
                f"{slices - 1}; give one of these, 'auto' or 'middle'"
            )


@dataclass(frozen=True, slots=True)
class Found:
    """A bead found: stack, pixel of its centre, how clearly it stands out."""

    stack: int
    column: int
    row: int
    response: float


@dataclass(frozen=True, slots=True)
class DroppedBead:
    """A bead that was found and not used; x, y are px of the chip."""

    stack: str
    x_px: float
    y_px: float
    reason: str


@dataclass(slots=True, eq=False)
class Bead:
    """A bead in its window, background taken off.

    Parameters
    ----------
    found
        Where it was found.
    light
        (Z, h, w) photons without background.
    background
        (Z,) photons per pixel that were taken off.
    shift
        (z, y, x) voxels from the model to this bead.
    amplitude
        Light of this bead in units of the model.
    residual
        Relative RMS difference to the model, both smoothed by 1 voxel.
    """

    found: Found
    light: Floats
    background: Floats
    shift: Floats = field(default_factory=lambda: np.zeros(3))
    amplitude: float = 1.0
    residual: float = 0.0
