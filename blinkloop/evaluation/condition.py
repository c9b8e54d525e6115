"""The microscope that a model is evaluated on: PSF, camera, pixel size.

By default the one of the model's card. A card may describe a whole range of PSFs, or a
PSF kept in another file; then, or to see what another microscope does to a model, parts
can be replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from blinkloop.errors import InputError
from blinkloop.optics import Camera
from blinkloop.psf_file import load_psf
from blinkloop.schema import (
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
    SplinePsfSettings,
    VariedGaussianPsfSettings,
)

__all__ = ["Condition", "WindowedPsf", "condition_of"]


class WindowedPsf(Protocol):
    """An image former that also knows windows and derivatives."""

    def render(
        self,
        x_px: Any,
        y_px: Any,
        z_nm: Any,
        photons: Any,
        frame: Any,
        n_frames: int,
        height: int,
        width: int,
    ) -> Any: ...

    def roi(self, x_px: Any, y_px: Any, z_nm: Any, photons: Any) -> Any: ...

    def derivatives(self, x_px: Any, y_px: Any, z_nm: Any, photons: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Condition:
    """A microscope.

    Parameters
    ----------
    psf
        Image former.
    settings
        Its description.
    camera
        Camera, pixel size included.
    z_range_nm
        Where emitters lie.
    """

    psf: WindowedPsf
    settings: GaussianPsfSettings | SplinePsfSettings
    camera: CameraSettings
    z_range_nm: tuple[float, float]

    @property
    def pixel_size_nm(self) -> float:
        """Pixel size in the sample."""
        return self.camera.pixel_size_nm

    @property
    def noise(self) -> Camera:
        """The camera as a noise model."""
        return Camera(self.camera)

    def as_dict(self) -> dict[str, Any]:
        """Descriptions of PSF and camera."""
        return {
            "psf": self.settings.model_dump(mode="json"),
            "camera": self.camera.model_dump(mode="json"),
            "z_range_nm": list(self.z_range_nm),
        }


def condition_of(
    card: ModelCard,
    *,
    psf_file: Path | None = None,
    sigma0_px: float | None = None,
    astigmatism_nm: float | None = None,
    camera: CameraSettings | None = None,
) -> Condition:
    """The microscope of a card, or one with parts replaced.

    Parameters
    ----------
    card
        Of the model. Of a range of PSFs the middle is taken: the geometric mean of the
        widths and depths, without astigmatism.
    psf_file
        Where the calibration of a measured PSF lies, if not where the card says.
    sigma0_px, astigmatism_nm
        In place of those of a Gaussian PSF.
    camera
        In place of the card's.

    Raises
    ------
    InputError
        When a part cannot be replaced, or the PSF file is missing or another one.
    """
    taken = camera or card.camera
    if camera is None and taken.pixel_size_nm != card.pixel_size_nm:
        # The card's own number is the one the network was made for.
        taken = taken.model_copy(update={"pixel_size_nm": card.pixel_size_nm})
    if not card.serves_pixel_size(taken.pixel_size_nm):
        raise InputError(
            f"the model {card.name!r} serves pixels of "
            f"{_served(card)} nm, not {taken.pixel_size_nm:g} nm; its PSF would have "
            f"another width in px; leave --pixel-size-nm out"
        )
    psf = card.psf
    if isinstance(psf, SplinePsfSettings):
        if sigma0_px is not None or astigmatism_nm is not None:
            raise InputError(
                f"the model {card.name!r} has a measured PSF; its width and "
                f"astigmatism cannot be chosen; give its calibration as --psf FILE"
            )
        if psf_file is not None:
            psf = psf.model_copy(update={"file": str(psf_file)})
        return Condition(load_psf(psf), psf, taken, card.z_range_nm)
    if psf_file is not None:
        raise InputError(
            f"the model {card.name!r} has a Gaussian PSF, so no calibration file fits "
            f"it; choose the PSF with --psf-sigma-px and --astigmatism-nm"
        )
    if isinstance(psf, VariedGaussianPsfSettings):
        psf = _middle(psf)
    changes = {"sigma0_px": sigma0_px, "astigmatism_nm": astigmatism_nm}
    described = {
        **psf.model_dump(),
        **{key: value for key, value in changes.items() if value is not None},
    }
    if not (described["sigma0_px"] > 0 and math.isfinite(described["astigmatism_nm"])):
        raise InputError(
            f"the PSF's width must be positive and its astigmatism a number, got "
            f"{described['sigma0_px']} px and {described['astigmatism_nm']} nm"
        )
    chosen = GaussianPsfSettings(**described)
    return Condition(load_psf(chosen), chosen, taken, chosen.z_range_nm)


def _middle(psf: VariedGaussianPsfSettings) -> GaussianPsfSettings:
    return GaussianPsfSettings(
        sigma0_px=math.sqrt(math.prod(psf.sigma0_px)),
        astigmatism_nm=0.0,
        depth_nm=math.sqrt(math.prod(psf.depth_nm)),
        z_range_nm=psf.emitter_z_range_nm,
    )


def _served(card: ModelCard) -> str:
    low, high = card.pixel_size_range_nm or (card.pixel_size_nm,) * 2
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
