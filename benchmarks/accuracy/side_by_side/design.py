"""The conditions of the comparison: which movies, how long, with which seeds.

The design is that of Fig. 2 of Speiser et al. 2021 (doi:10.1038/s41592-021-01236-x):
density by photons, mean on-time of two frames, 100 nm pixels. Ours are the background
(1 % of the photons per pixel: 10, 50, 200), the second camera, the second set in 2D and
the rim of 8 px around the scored field of 64 x 64 px: peers leave out spots whose box
does not fit into the frame, which is no matter of accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from blinkloop.schema import CameraSettings, GaussianPsfSettings, ModelCard

PIXEL_SIZE_NM = 100.0
FIELD_PX = 64
RIM_PX = 8
FRAME_PX = FIELD_PX + 2 * RIM_PX
FIELD_UM2 = (FIELD_PX * PIXEL_SIZE_NM / 1000) ** 2
ON_TIME_FRAMES = 2.0
FLUX_RELATIVE_SD = 0.2
BACKGROUND_PER_PHOTON = 0.01
SEED = 20261122

DENSITIES = tuple(float(d) for d in np.geomspace(0.04, 5.6, 8).round(3))
PHOTONS = (1000, 5000, 20000)
SETS = ("3d", "2d")
Role = Literal["test", "tune"]

PSF = GaussianPsfSettings(
    sigma0_px=1.1, astigmatism_nm=250.0, depth_nm=280.0, z_range_nm=(-500.0, 500.0)
)
"""Astigmatic Gaussian (that of the card astigmatic-small); the 2D set has z = 0."""

CAMERAS = {
    "ideal": CameraSettings(
        kind="ideal", baseline_adu=100, e_per_adu=1, read_noise_e=0, pixel_size_nm=100
    ),
    # SMLM challenge 2016, Sage et al. 2019, doi:10.1038/s41592-019-0364-4
    "emccd": CameraSettings(
        kind="emccd",
        baseline_adu=100,
        e_per_adu=45,
        em_gain=300,
        read_noise_e=74.4,
        spurious_e=0.002,
        pixel_size_nm=100,
    ),
}

_EMITTERS = {"test": 2500, "tune": 1200}
_FEWEST_FRAMES = {"test": 40, "tune": 16}


@dataclass(frozen=True, slots=True)
class Condition:
    """One simulated movie.

    Parameters
    ----------
    dimensions
        "3d": z uniform over the PSF's range; "2d": the same optics, z = 0.
    camera
        Key of `CAMERAS`.
    photons
        Mean flux per frame while on.
    density_per_um2
        Emitters that touch a frame.
    role
        "test" is scored; on "tune" the peers' settings are chosen.
    """

    dimensions: str
    camera: str
    photons: int
    density_per_um2: float
    role: Role = "test"

    @property
    def name(self) -> str:
        """For files; unique."""
        density = f"{self.density_per_um2:g}".replace(".", "p")
        return f"{self.dimensions}-{self.camera}-{self.photons}-d{density}-{self.role}"

    @property
    def three_dimensional(self) -> bool:
        """False for z = 0."""
        return self.dimensions == "3d"

    @property
    def background_photons(self) -> float:
        """Per pixel and frame."""
        return BACKGROUND_PER_PHOTON * self.photons

    @property
    def frames(self) -> int:
        """So many that about 2500 (tune: 1200) emitters touch the scored field."""
        wanted = _EMITTERS[self.role] / (self.density_per_um2 * FIELD_UM2)
        return max(_FEWEST_FRAMES[self.role], math.ceil(wanted))

    @property
    def seed(self) -> list[int]:
        """Of the simulation; differs between conditions and between roles."""
        return [
            SEED,
            SETS.index(self.dimensions),
            list(CAMERAS).index(self.camera),
            self.photons,
            round(self.density_per_um2 * 1000),
            ("test", "tune").index(self.role),
        ]

    @property
    def psf(self) -> GaussianPsfSettings:
        """Of this set."""
        if self.three_dimensional:
            return PSF
        return PSF.model_copy(update={"z_range_nm": (0.0, 0.0)})

    def facts(self) -> dict[str, Any]:
        """All that decides the movie, for its description and its hash."""
        return {
            "name": self.name,
            "frames": self.frames,
            "frame_px": FRAME_PX,
            "rim_px": RIM_PX,
            "on_time_frames": ON_TIME_FRAMES,
            "flux_relative_sd": FLUX_RELATIVE_SD,
            "background_photons": self.background_photons,
            "photons": self.photons,
            "density_per_um2": self.density_per_um2,
            "seed": self.seed,
            "camera": CAMERAS[self.camera].model_dump(mode="json"),
            "psf": self.psf.model_dump(mode="json"),
        }

    def tuning(self) -> Condition:
        """The movie on which a peer is tuned for this one."""
        return replace(self, role="tune")

    def outside(self, card: ModelCard) -> list[str]:
        """What of this condition the network of a card has not seen.

        Its training ranges; and the excess noise of EM gain, when neither the card's
        camera nor the range of cameras in its recipe has it.
        """
        facts = {
            "photons": float(self.photons),
            "background_photons": self.background_photons,
            "density_per_um2": self.density_per_um2,
            "on_time_frames": ON_TIME_FRAMES,
        }
        names = []
        for name, value in facts.items():
            low, high = getattr(card.training_ranges, name)
            if not low <= value <= high * (1 + 1e-9):
                names.append(name.split("_")[0])
        recipe = card.provenance.get("recipe") or {}
        cameras = recipe.get("camera_variation") or {}
        seen = card.camera.kind == "emccd" or cameras.get("emccd_fraction", 0) > 0
        if CAMERAS[self.camera].kind == "emccd" and not seen:
            names.append("camera")
        return names


def grid(
    sets: Sequence[str] = SETS,
    cameras: Sequence[str] = tuple(CAMERAS),
    photons: Sequence[int] = PHOTONS,
    densities: Sequence[float] = DENSITIES,
) -> Iterator[Condition]:
    """All conditions, in the order of the table."""
    for dimensions in sets:
        for camera in cameras:
            for flux in photons:
                for density in densities:
                    yield Condition(dimensions, camera, flux, density)
