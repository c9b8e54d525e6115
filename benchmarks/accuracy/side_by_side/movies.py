"""Simulated movies on disk: a TIFF that every tool reads, and the truth beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import EMITTER_DTYPE, CameraSettings
from side_by_side.design import (
    CAMERAS,
    FLUX_RELATIVE_SD,
    FRAME_PX,
    ON_TIME_FRAMES,
    PIXEL_SIZE_NM,
    PSF,
    SEED,
    Condition,
)

__all__ = ["Movie", "make_beads", "make_check", "make_movie", "read_movie"]

BEAD_Z_NM = 900.0
BEAD_STEP_NM = 10.0
CHECK_FRAMES = 400


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie on disk.

    Parameters
    ----------
    tiff
        uint16 (T, H, W).
    facts
        What it is made of, and the SHA-256 of its pixels under `sha256`.
    truth
        `EMITTER_DTYPE`, also emitters in the rim; None for beads.
    """

    tiff: Path
    facts: dict[str, Any]
    truth: npt.NDArray[np.void] | None

    @property
    def frames(self) -> int:
        """Length."""
        return int(self.facts["frames"])


def make_movie(folder: Path, condition: Condition) -> Movie:
    """Simulate a condition and write it; read it when it is there already."""
    kept = _kept(folder, condition.name, condition.facts())
    if kept is not None:
        return kept
    camera = CAMERAS[condition.camera]
    scene = simulate_scene(
        np.random.default_rng(condition.seed),
        GaussianPsf(condition.psf),
        Camera(camera),
        SceneSettings(
            n_frames=condition.frames,
            height_px=FRAME_PX,
            width_px=FRAME_PX,
            pixel_size_nm=PIXEL_SIZE_NM,
            z_range_nm=condition.psf.z_range_nm,
            photons_relative_sd=FLUX_RELATIVE_SD,
        ),
        density_per_um2=np.array([condition.density_per_um2]),
        photons=np.array([float(condition.photons)]),
        background_photons=np.array([condition.background_photons]),
        on_time_frames=np.array([ON_TIME_FRAMES]),
    )
    return _write(
        folder, condition.name, condition.facts(), scene.frames_adu[0], scene.emitters
    )


def make_check(folder: Path, dimensions: str) -> Movie:
    """One bright emitter a frame, alone, anywhere in a frame that is not square.

    Half-pixel shifts, swapped axes, the sign and the origin of z show in it.
    """
    height, width, frames = 44, 60, CHECK_FRAMES
    facts = {
        "frames": frames,
        "height_px": height,
        "width_px": width,
        "photons": 20000,
        "background_photons": 20,
        "seed": [SEED, 100 + len(dimensions), dimensions == "3d"],
        "camera": CAMERAS["ideal"].model_dump(mode="json"),
        "psf": PSF.model_dump(mode="json"),
    }
    name = f"check-{dimensions}"
    kept = _kept(folder, name, facts)
    if kept is not None:
        return kept
    rng = np.random.default_rng([SEED, 100, int(dimensions == "3d")])
    rows = np.zeros(frames, EMITTER_DTYPE)
    rows["frame"] = rows["id"] = np.arange(frames)
    rows["x_px"] = rng.uniform(12, width - 13, frames)
    rows["y_px"] = rng.uniform(12, height - 13, frames)
    if dimensions == "3d":
        rows["z_nm"] = rng.uniform(-450, 450, frames)
    rows["photons"] = facts["photons"]
    rows["background_photons"] = facts["background_photons"]
    pixels = _expose(rows, frames, height, width, 20.0, CAMERAS["ideal"], rng)
    return _write(folder, name, facts, pixels, rows)


def make_beads(folder: Path, *, first_z_nm: float) -> Movie:
    """A z-stack of 16 beads, a plane a frame; z from `first_z_nm` to minus that.

    Beads are 50 px apart at different sub-pixel places and send 50,000 photons a plane
    onto an ideal camera: as good a calibration as a peer can get.
    """
    planes = round(2 * BEAD_Z_NM / BEAD_STEP_NM) + 1
    side, size = 4, 230
    name = "beads-down" if first_z_nm > 0 else "beads-up"
    facts = {
        "frames": planes,
        "step_nm": BEAD_STEP_NM,
        "first_z_nm": first_z_nm,
        "beads": side**2,
        "photons": 50000,
        "background_photons": 5,
        "seed": [SEED, 200],
        "camera": CAMERAS["ideal"].model_dump(mode="json"),
        "psf": PSF.model_dump(mode="json"),
    }
    kept = _kept(folder, name, facts)
    if kept is not None:
        return kept
    rng = np.random.default_rng([SEED, 200])
    centres = 40.0 + 50.0 * np.arange(side)
    x, y = (c.ravel() for c in np.meshgrid(centres, centres))
    x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)
    rows = np.zeros((planes, side**2), EMITTER_DTYPE)
    rows["frame"] = np.arange(planes)[:, None]
    rows["x_px"], rows["y_px"] = x, y
    rows["z_nm"] = np.linspace(first_z_nm, -first_z_nm, planes)[:, None]
    rows["photons"] = facts["photons"]
    pixels = _expose(rows.ravel(), planes, size, size, 5.0, CAMERAS["ideal"], rng)
    return _write(folder, name, facts, pixels, None)


def read_movie(folder: Path, name: str) -> Movie:
    """A movie that was written before."""
    facts = json.loads((folder / f"{name}.json").read_text())
    truth = None
    if (folder / f"{name}.npz").exists():
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            truth = file["emitters"]
    return Movie(folder / f"{name}.tif", facts, truth)


def _expose(
    rows: npt.NDArray[np.void],
    frames: int,
    height: int,
    width: int,
    background: float,
    camera: CameraSettings,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    expected = GaussianPsf(PSF).render(
        rows["x_px"].astype(np.float32),
        rows["y_px"].astype(np.float32),
        rows["z_nm"],
        rows["photons"],
        rows["frame"],
        frames,
        height,
        width,
    )
    exposed: npt.NDArray[np.float32] = Camera(camera).forward(
        expected + np.float32(background), rng
    )
    return exposed


def _kept(folder: Path, name: str, facts: dict[str, Any]) -> Movie | None:
    """The movie on disk, if it is there and of these facts."""
    if not (folder / f"{name}.json").exists():
        return None
    movie = read_movie(folder, name)
    known = {key: value for key, value in movie.facts.items() if key != "sha256"}
    return movie if known == json.loads(json.dumps(facts)) else None


def _write(
    folder: Path,
    name: str,
    facts: dict[str, Any],
    frames_adu: npt.NDArray[np.float32],
    truth: npt.NDArray[np.void] | None,
) -> Movie:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = frames_adu.astype(np.uint16)
    tiff = folder / f"{name}.tif"
    tifffile.imwrite(tiff, pixels, photometric="minisblack", metadata=None)
    if truth is not None:
        np.savez_compressed(folder / f"{name}.npz", emitters=truth)
    facts = {**facts, "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    # Last: a movie without its description was not written whole.
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1))
    return Movie(tiff, facts, truth)
