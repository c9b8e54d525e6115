"""What always shines, found and taken out of frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spot_helpers import HEIGHT, WIDTH, spot

from blinkloop.cli._static_light import LiveStaticLight, MovieStaticLight
from blinkloop.integrations.movies import RegionMovie, open_movie
from blinkloop.neighbours import grown
from blinkloop.optics import Camera
from blinkloop.runtime import Frame, Roi
from blinkloop.schema import CameraSettings
from blinkloop.static_light import LEAST_FRAMES, frames_wanted, static_light

SCMOS = Camera(
    CameraSettings(kind="scmos", baseline_adu=100, e_per_adu=0.5, read_noise_e=1.5)
)
EMCCD = Camera(
    CameraSettings(
        kind="emccd",
        baseline_adu=100,
        e_per_adu=5.0,
        em_gain=100,
        read_noise_e=60,
        quantum_efficiency=0.9,
    )
)
Frames = npt.NDArray[np.uint16]
OfMovie = Callable[..., MovieStaticLight]


def counts(photons: Any, camera: Camera = SCMOS, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    adu = camera.forward(np.asarray(photons, np.float32), rng)
    return np.clip(np.rint(adu), 0, 65535).astype(np.uint16)


def movie(n_frames: int, *, static: float = 1500.0, seed: int = 0) -> Frames:
    """A bead at (40, 12), an emitter at (15, 30) in 40 % of the frames."""
    rng = np.random.default_rng(seed)
    photons = np.full((n_frames, HEIGHT, WIDTH), 20.0) + spot(40, 12, static)
    photons[rng.random(n_frames) < 0.4] += spot(15, 30, 1000)
    return counts(photons, seed=seed)


def photons_of(light: npt.NDArray[np.float32], camera: Camera) -> Any:
    s = camera.settings
    gain = s.em_gain if s.kind == "emccd" else 1
    return light * s.e_per_adu / gain / s.quantum_efficiency


@pytest.mark.parametrize("camera", [SCMOS, EMCCD], ids=["scmos", "emccd"])
def test_a_bead_is_found_with_all_its_light(camera: Camera) -> None:
    background = 20 + 8 * np.sin(np.arange(WIDTH) / 50)[None, :] * np.ones((HEIGHT, 1))
    frames = counts(np.tile(background + spot(40, 12, 1500), (64, 1, 1)), camera)
    light = photons_of(static_light(frames, camera), camera)
    bead = light[5:20, 33:48]
    assert bead[3:12, 3:12].sum() == pytest.approx(1500, rel=0.08)
    assert np.abs(bead - spot(40, 12, 1500)[5:20, 33:48]).max() < 9
    outside = light.copy()
    outside[3:22, 31:50] = 0
    assert np.count_nonzero(outside) < 0.02 * outside.size


@pytest.mark.parametrize("camera", [SCMOS, EMCCD], ids=["scmos", "emccd"])
def test_noise_smooth_light_and_blinking_are_none(camera: Camera) -> None:
    rng = np.random.default_rng(3)
    wave = 60 + 20 * np.sin(np.arange(WIDTH) / 60)[None, :] * np.ones((HEIGHT, 1))
    photons = np.tile(wave, (64, 1, 1))
    for x, y in rng.uniform(8, 38, (6, 2)):  # six emitters on for half of the time
        photons[rng.random(64) < 0.5] += spot(x, y, 700)
    light = photons_of(static_light(counts(photons, camera), camera), camera)
    assert np.abs(light).max() < 0.3 * spot(20, 20, 700).max()
    quiet = static_light(counts(np.tile(wave, (64, 1, 1)), camera), camera)
    assert np.count_nonzero(quiet) < 0.01 * quiet.size


def test_an_edge_is_evened_from_both_sides() -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    cell = 20 + 60 / (1 + np.exp(np.hypot(columns - 30, rows - 22) - 15))
    light = photons_of(static_light(counts(np.tile(cell, (64, 1, 1))), SCMOS), SCMOS)
    left = cell - light
    steepest = [np.abs(np.diff(image, axis=1)).max() for image in (cell, left)]
    assert light.min() < -3
    assert steepest[1] < 0.75 * steepest[0]


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(LEAST_FRAMES, 70),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    value=st.sampled_from([0, 100, 255]),
)
def test_flat_frames_of_any_size_have_none(
    height: int, width: int, count: int, dtype: Any, value: int
) -> None:
    light = static_light(np.full((count, height, width), value, dtype), SCMOS)
    assert light.shape == (height, width)
    assert light.dtype == np.float32
    assert not light.any()


def test_neighbours_of_what_was_found() -> None:
    found = np.zeros((5, 7), bool)
    found[0, 6] = found[3, 2] = True
    near = grown(found, 1)
    wanted = {(0, 5), (0, 6), (1, 5), (1, 6)}
    wanted |= {(y, x) for y in (2, 3, 4) for x in (1, 2, 3)}
    assert set(zip(*(place.tolist() for place in np.nonzero(near)), strict=True)) == (
        wanted
    )
    np.testing.assert_array_equal(grown(found, 0), found)


def test_too_few_frames() -> None:
    with pytest.raises(ValueError, match="need 16 frames, got 15"):
        static_light(np.zeros((15, 3, 4), np.uint16), SCMOS)
    assert frames_wanted(2 * 128 * 128) == 64
    assert frames_wanted(2 * 4096 * 4096) == LEAST_FRAMES


def stream(frames: Frames, roi: Roi, first: int = 0) -> Iterator[Frame]:
    for number, pixels in enumerate(frames, first):
        yield Frame(number, 0.0, pixels, roi)


CHIP = Roi(7, 3, WIDTH, HEIGHT)


def at_bead(pixels: npt.NDArray[Any]) -> float:
    """Mean light of the bead's middle above the rest, in photons."""
    left = SCMOS.backward(pixels.astype(np.float32))
    return float(left[11:14, 39:42].mean() - np.median(left))


@pytest.fixture
def of_movie(tmp_path: Path) -> Iterator[Callable[..., MovieStaticLight]]:
    """Static light of a movie of these frames, or of a region of it."""
    with ExitStack() as opened:

        def make(frames: Frames, region: Roi | None = None) -> MovieStaticLight:
            path = tmp_path / "movie.npy"
            np.save(path, frames)
            whole = opened.enter_context(open_movie(path))
            region = region or Roi(0, 0, WIDTH, HEIGHT)
            return MovieStaticLight(RegionMovie(whole, region), SCMOS)

        yield make


def test_a_movie_loses_its_bead_and_no_emitter(of_movie: OfMovie) -> None:
    frames = movie(200)
    light = of_movie(frames)
    done = [light.applied(frame) for frame in stream(frames, CHIP)]
    assert done[0].pixels.dtype == np.float32
    assert done[3].roi == CHIP
    assert abs(np.mean([at_bead(frame.pixels) for frame in done])) < 6
    assert np.mean([at_bead(pixels) for pixels in frames]) > 90
    same = np.stack([frame.pixels for frame in done])[:, 22:, :28]
    # Where the emitter blinks, next to nothing is taken.
    assert np.abs(same - frames[:, 22:, :28]).max() < 0.1 * 2 * spot(15, 30, 1000).max()


def test_what_a_frame_loses_does_not_depend_on_where_one_begins(
    of_movie: OfMovie,
) -> None:
    fading = np.exp(-np.arange(900) / 900)[:, None, None]
    frames = counts(20 + fading * spot(40, 12, 1500))
    whole, part = of_movie(frames), of_movie(frames)
    first = {f.index: whole.applied(f).pixels for f in stream(frames, CHIP)}
    for frame in stream(frames[431:450], CHIP, 431):
        np.testing.assert_array_equal(part.applied(frame).pixels, first[frame.index])
    # It follows what bleaches.
    middle = [at_bead(first[index]) for index in range(150, 750)]
    assert np.abs(np.convolve(middle, np.full(50, 1 / 50), "valid")).max() < 6


def test_a_region_of_a_movie_and_a_frame_of_another_size(of_movie: OfMovie) -> None:
    frames = movie(64)
    region = Roi(30, 4, 25, 20)
    light = of_movie(frames, region)
    part = Frame(5, 0.0, frames[5, 4:24, 30:55], region)
    assert light.applied(part).pixels.shape == (20, 25)
    assert light.applied(part).pixels[8, 10] < part.pixels[8, 10] - 100
    wrong = Frame(5, 0.0, frames[5], CHIP)
    assert light.applied(wrong) is wrong


def test_a_movie_of_few_frames_stays_as_it_is(of_movie: OfMovie) -> None:
    frames = movie(LEAST_FRAMES - 1)
    light = of_movie(frames)
    assert not light.enough
    for frame in stream(frames, CHIP):
        assert light.applied(frame) is frame


def test_a_camera_is_corrected_once_the_first_frames_were_seen() -> None:
    light, frames = LiveStaticLight(SCMOS), movie(80)
    before = frames.copy()
    done = [light.applied(frame) for frame in stream(frames, CHIP)]
    for number in range(63):
        assert done[number].pixels is frames[number] or np.shares_memory(
            done[number].pixels, frames
        )
    assert abs(np.mean([at_bead(frame.pixels) for frame in done[64:]])) < 8
    np.testing.assert_array_equal(frames, before)
    # Elsewhere on the chip everything begins anew.
    moved = Frame(80, 0.0, frames[0], Roi(0, 0, WIDTH, HEIGHT))
    assert light.applied(moved).pixels is moved.pixels
    wrong = Frame(81, 0.0, frames[0], Roi(0, 0, 3, 3))
    assert light.applied(wrong) is wrong


def settled(light: LiveStaticLight, frames: Frames, first: int) -> Frame:
    """The last frame, when all pictures of the frames before it are made."""
    for frame in stream(frames, CHIP, first):
        light.applied(frame)
    for _ in range(200):
        if light._now:
            break
        time.sleep(0.01)
    last: Frame = light.applied(Frame(first + len(frames), 0.0, frames[-1], CHIP))
    return last


def test_a_camera_follows_bleaching_and_takes_no_emitter_for_static() -> None:
    light, begin = LiveStaticLight(SCMOS), movie(64)
    for frame in stream(begin, CHIP):
        light.applied(frame)
    # The bead fades to a third; an emitter that was not there shines for ever.
    photons = 20 + spot(40, 12, 500) + spot(15, 30, 1500)
    later = counts(np.tile(photons, (1030, 1, 1)), seed=4)
    first = settled(light, later, 64)
    second = settled(light, later, 64 + 1031)
    left = [at_bead(frame.pixels) for frame in (first, second)]
    assert left[0] == pytest.approx(0.5 * (500 - 1500) * 0.085, abs=8)
    assert abs(left[1]) < abs(left[0]) - 10
    kept = SCMOS.backward(second.pixels)[29:32, 14:17].mean()
    assert kept == pytest.approx(photons[29:32, 14:17].mean(), rel=0.15)
