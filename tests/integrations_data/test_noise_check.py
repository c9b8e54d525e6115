"""Noise that the camera facts do not explain is told; blinking is not taken for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.noise_check import NoiseCheck
from blinkloop.optics import Camera
from blinkloop.schema import CameraSettings

TRUE = CameraSettings(
    kind="scmos", baseline_adu=100, e_per_adu=0.47, quantum_efficiency=1, read_noise_e=2
)
EM = CameraSettings(
    kind="emccd",
    baseline_adu=400,
    e_per_adu=9.5,
    em_gain=200,
    quantum_efficiency=1,
    read_noise_e=50,
)


def movie(
    level: float, settings: CameraSettings = TRUE, frames: int = 16, size: int = 40
) -> npt.NDArray[np.uint16]:
    """Flat frames in ADU, from the formulas alone."""
    rng = np.random.default_rng(0)
    electrons = rng.poisson(level, (frames, size, size)).astype(float)
    if settings.kind == "emccd":
        electrons = rng.gamma(np.maximum(electrons, 1e-9), settings.em_gain)
    electrons += rng.normal(0, settings.read_noise_e, electrons.shape)
    adu = electrons / settings.e_per_adu + settings.baseline_adu
    return np.rint(np.clip(adu, 0, 65535)).astype(np.uint16)


def checked(
    adu: npt.NDArray[Any],
    settings: CameraSettings = TRUE,
    places: tuple[tuple[float, float], ...] = (),
    numbers: range | None = None,
) -> NoiseCheck:
    camera = Camera(settings)
    check = NoiseCheck(camera)
    where = np.array(places, float).reshape(-1, 2)
    for index, frame in zip(numbers or range(len(adu)), adu, strict=True):
        photons = np.asarray(camera.backward(frame.astype(np.float32)))
        check.add(index, photons, where[:, 0], where[:, 1], integers=True)
    return check


@pytest.mark.parametrize("settings", [TRUE, EM], ids=["scmos", "emccd"])
@pytest.mark.parametrize("level", [2.5, 20.0, 200.0])
def test_true_facts_draw_no_warning(settings: CameraSettings, level: float) -> None:
    check = checked(movie(level, settings), settings)
    assert check.ratio() == pytest.approx(1, abs=0.12)
    assert check.warning() is None


@pytest.mark.parametrize(
    ("wrong", "ratio"),
    [
        ({"e_per_adu": 2.1}, 2.1),
        ({"e_per_adu": 0.1}, 0.41),
        ({"baseline_adu": 0}, 0.6),
    ],
    ids=["gain", "gain_low", "baseline"],
)
def test_wrong_facts_are_told(wrong: dict[str, Any], ratio: float) -> None:
    check = checked(movie(20.0), TRUE.model_copy(update=wrong))
    assert check.ratio() == pytest.approx(ratio, rel=0.15)
    line = check.warning()
    assert line is not None
    assert "--e-per-adu" in line


def test_blinking_is_not_noise_and_dark_frames_say_nothing() -> None:
    adu = movie(20.0)
    adu[::2, 5:35, :] += 400
    assert checked(adu).warning() is not None
    # One emitter in the middle of each 10 px: all that blinks is left out.
    places = tuple((x, y) for x in range(0, 41, 10) for y in (11, 20, 29))
    assert checked(adu, places=places).ratio() == pytest.approx(1, abs=0.1)
    everywhere = tuple((x, y) for x in range(0, 41, 10) for y in range(0, 41, 10))
    assert checked(adu, places=everywhere).ratio() is None
    assert checked(movie(0.5)).ratio() is None


def test_frames_that_do_not_follow_begin_anew() -> None:
    adu = movie(20.0, frames=6)
    assert checked(adu).ratio() is not None
    assert checked(adu, numbers=range(0, 12, 2)).ratio() is None
    assert checked(adu[:3]).ratio() is None
