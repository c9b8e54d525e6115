"""Emitters that keep apart: far from each other, and no more left out than needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.blinking import Blinks, sample_blinks
from blinkloop.optics.scene import Scene, SceneSettings, simulate_scene
from blinkloop.optics.spacing import apart
from blinkloop.schema import CameraSettings, GaussianPsfSettings

N_FRAMES = 4


def drawn(seed: int, movies: int) -> tuple[Blinks, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    blinks = sample_blinks(
        rng,
        emitters_per_frame=np.full(movies, 30.0),
        on_time_frames=np.full(movies, 1.5),
        flux_photons=np.full(movies, 1000.0),
        flux_relative_sd=0.2,
        n_frames=N_FRAMES,
    )
    x, y = rng.uniform(0, 40, (2, blinks.sample.size))
    return blinks, x, y


@given(
    st.integers(0, 1000),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.floats(0.5, 20.0),
)
@settings(max_examples=40, deadline=None)
def test_seen_ones_are_apart_and_each_left_out_was_too_close(
    seed: int, spaced: list[bool], distance: float
) -> None:
    blinks, x, y = drawn(seed, len(spaced))
    kept = apart(
        blinks, x, y, np.array(spaced), distance_px=distance, n_frames=N_FRAMES
    )
    seen = (blinks.start < N_FRAMES) & (blinks.start + blinks.on_time > 0)
    for movie, keeps_apart in enumerate(spaced):
        mine = blinks.sample == movie
        assert kept[mine & ~seen].all()
        if not keeps_apart:
            assert kept[mine].all()
            continue
        stay = np.flatnonzero(mine & seen & kept)
        between = np.hypot(x[stay][:, None] - x[stay], y[stay][:, None] - y[stay])
        np.fill_diagonal(between, np.inf)
        assert between.min(initial=np.inf) >= distance
        for one in np.flatnonzero(mine & seen & ~kept):
            before = stay[stay < one]
            assert np.hypot(x[before] - x[one], y[before] - y[one]).min() < distance


def movies(fraction: float, density: npt.ArrayLike) -> Scene:
    density = np.asarray(density, float)
    ones = np.ones_like(density)
    return simulate_scene(
        np.random.default_rng(7),
        GaussianPsf(GaussianPsfSettings(sigma0_px=1.2, z_range_nm=(0.0, 0.0))),
        Camera(CameraSettings(kind="ideal")),
        SceneSettings(
            n_frames=N_FRAMES,
            height_px=33,
            width_px=46,
            pixel_size_nm=100.0,
            z_range_nm=(0.0, 0.0),
            companion_fraction=0.3,
            spaced_fraction=fraction,
            spaced_distance_px=7.0,
        ),
        density_per_um2=density,
        photons=3000.0 * ones,
        background_photons=10.0 * ones,
        on_time_frames=2.0 * ones,
    )


def nearest(scene: Scene, movie: int) -> float:
    rows = scene.emitters[scene.emitters["frame"] // N_FRAMES == movie]
    _, first = np.unique(rows["id"], return_index=True)
    x, y = rows["x_px"][first], rows["y_px"][first]
    between = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(between, np.inf)
    return float(between.min())


def test_some_movies_of_a_scene_keep_apart() -> None:
    scene = movies(0.5, np.full(12, 2.0))
    assert 0 < scene.spaced.sum() < 12
    far = [nearest(scene, movie) >= 7.0 for movie in range(12)]
    assert far == scene.spaced.tolist()


def test_none_of_them_by_default_and_an_empty_movie_is_fine() -> None:
    scene = movies(0.0, [2.0, 0.0])
    assert not scene.spaced.any()
    assert movies(1.0, [0.0]).emitters.shape == (0,)
