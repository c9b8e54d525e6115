"""Cards, and a localizer that knows the truth and errs as it is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from blinkloop.evaluation import Localized, bounds_nm2
from blinkloop.evaluation.condition import Condition
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    Architecture,
    CameraSettings,
    ModelCard,
    PsfSettings,
    Scaling,
    TrainingRanges,
)

Table = npt.NDArray[np.void]


def make_card(psf: PsfSettings, **more: object) -> ModelCard:
    facts = {
        "name": "of the tests",
        "architecture": Architecture(),
        "pixel_size_nm": 100.0,
        "z_range_nm": psf.z_range_nm,
        "psf": psf,
        "camera": CameraSettings(),
        "scaling": Scaling(
            input_offset_photons=20,
            input_scale_photons=60,
            photons_max=5000,
            z_max_nm=600,
            background_max=50,
        ),
        "training_ranges": TrainingRanges(
            photons=(500, 5000),
            background_photons=(5, 40),
            density_per_um2=(0, 2),
            on_time_frames=(1, 5),
        ),
    }
    return ModelCard(**{**facts, **more})


def oracle(
    truth: Table,
    condition: Condition,
    frames: int,
    shape: tuple[int, int],
    *,
    times: float = 1.0,
    sigma_times: float = 1.0,
    three_dimensional: bool = True,
    seed: int = 0,
    p: float = 1.0,
) -> Callable[..., Localized]:
    """Finds each emitter of the truth in the field with errors of `times` the bound."""
    inside = (truth["photons"] >= 50) & (truth["frame"] < frames)
    for name, size in (("x_px", shape[1]), ("y_px", shape[0])):
        inside &= (truth[name] >= -0.5) & (truth[name] < size - 0.5)
    seen = truth[inside]
    bound = np.sqrt(bounds_nm2(seen, condition, three_dimensional=three_dimensional))
    rng = np.random.default_rng(seed)

    def localize(frames_THW: npt.NDArray[np.generic], camera: object) -> Localized:
        assert frames_THW.shape == (frames, *shape)
        table = np.zeros(len(seen), LOCALIZATION_DTYPE)
        error = times * bound * rng.standard_normal(bound.shape)
        pixel = condition.pixel_size_nm
        table["frame"], table["prob"] = seen["frame"], p
        for axis, name in enumerate(("x_px", "y_px")):
            table[name] = seen[name] + error[:, axis] / pixel
            table[name.replace("_px", "_sigma_px")] = (
                sigma_times * times * bound[:, axis] / pixel
            )
        if three_dimensional:
            table["z_nm"] = seen["z_nm"] + error[:, 2]
            table["z_sigma_nm"] = sigma_times * times * bound[:, 2]
        row = np.floor((seen["y_px"] + 0.5) / 8).astype(int)
        column = np.floor((seen["x_px"] + 0.5) / 8).astype(int)
        blocks = np.zeros((frames, -(-shape[0] // 8), -(-shape[1] // 8)), np.float32)
        np.add.at(blocks, (seen["frame"], row, column), p)
        count = np.bincount(seen["frame"], minlength=frames) * p
        order = np.argsort(table["frame"], kind="stable")
        return Localized(table[order], count, count * (1 - p), blocks, 0.0, 0.1)

    return localize
