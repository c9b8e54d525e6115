"""Pooling-based detection against the official numbers and by its own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.schema import DETECTION_COLUMNS, DetectionSettings, Scaling
from blinkloop.training.detection import (
    PHYSICAL_CHANNELS,
    count_variance,
    detection_scores,
    detection_table,
    localize,
    physical_scale,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_misc.npz"
COLUMN = {name: i for i, name in enumerate(DETECTION_COLUMNS)}
DEFAULT = DetectionSettings()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as data:
        return {k: data[k] for k in data.files if k.startswith(("nms", "pp"))}


def scores_of(p, chosen=DEFAULT, threshold=None):
    return detection_scores(torch.as_tensor(p)[None], chosen, threshold)[0].numpy()


def random_maps(rng, shape):
    """(T, 10, H, W) with sparse high p."""
    t, h, w = shape
    maps = rng.uniform(-0.5, 0.5, (t, 10, h, w)).astype(np.float32)
    maps[:, 0] = rng.uniform(0, 1, (t, h, w)) ** 6
    return torch.from_numpy(maps)


# Pixels (frame, row, column) of a planted plateau of p = 0.4 that the official code
# reports besides the first one; the one intended difference.
TIED = ([2, 2], [11, 11], [10, 11])


@pytest.mark.parametrize("r", [0.1, 0.3, 0.5])
def test_scores_equal_the_official_ones_but_for_ties(golden, r):
    p, expected = golden["nms_p"], golden[f"nms_{r}"].copy()
    assert len(set(p[TIED])) == 1
    if r < p[TIED][0]:
        np.testing.assert_array_equal(expected[TIED], 1)
    expected[TIED] = 0
    chosen = DetectionSettings(raw_threshold=r, threshold=r, split=0.6)
    for turn in (lambda a: a, lambda a: np.ascontiguousarray(a.transpose(0, 2, 1))):
        got = detection_scores(torch.from_numpy(turn(p)), chosen)
        np.testing.assert_allclose(got.numpy(), turn(expected), atol=1e-6)


def test_localizations_equal_the_official_post_processing(golden):
    """Official x is the first image axis: transpose the maps, swap its x and y."""
    swap = [0, 1, 3, 2, 4, 5, 7, 6, 8, 9]
    maps = torch.from_numpy(golden["pp_in"].transpose(0, 1, 3, 2)[:, swap].copy())
    chosen = DetectionSettings(raw_threshold=0.3, threshold=0.3, split=0.6)
    got = localize(maps, chosen)
    height, width = maps.shape[2:]
    # The golden coordinates are the offsets alone, without the pixel.
    flat = {name: maps[:, i].flatten() for i, name in enumerate(PHYSICAL_CHANNELS)}
    order = np.argsort(got["photons"])
    tied = np.isin(golden["pp_phot"], golden["pp_in"][:, 1][TIED])
    official = np.argsort(golden["pp_phot"])
    official = official[~tied[official]]
    assert len(order) == len(official) == 263 - 2
    for ours, theirs in (
        ("prob", golden["pp_prob"]),
        ("z_nm", golden["pp_xyz"][:, 2]),
        ("photons", golden["pp_phot"]),
        ("background_photons", golden["pp_bg"]),
        ("x_sigma_px", golden["pp_xyz_sig"][:, 1]),
        ("y_sigma_px", golden["pp_xyz_sig"][:, 0]),
        ("z_sigma_nm", golden["pp_xyz_sig"][:, 2]),
        ("photons_sigma", golden["pp_phot_sig"]),
        ("frame", golden["pp_frame"]),
    ):
        np.testing.assert_allclose(got[ours][order], theirs[official], atol=1e-6)
    # Find every detection's pixel by its photons, which are unique.
    pixel = np.array(
        [int((flat["photons"] == float(v)).nonzero()[0]) for v in got["photons"]]
    )
    row, column = pixel % (height * width) // width, pixel % width
    for coordinate, index, axis in (("x_px", column, 1), ("y_px", row, 0)):
        offset = got[coordinate] - index
        np.testing.assert_allclose(
            offset[order], golden["pp_xyz"][official, axis], atol=1e-5
        )


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param([(3, 4), (3, 5)], id="row"),
        pytest.param([(3, 4), (4, 4)], id="column"),
        pytest.param([(3, 4), (4, 5)], id="diagonal"),
        pytest.param([(3, 5), (4, 4)], id="antidiagonal"),
        pytest.param([(3, 4), (3, 5), (4, 4), (4, 5)], id="square"),
        pytest.param([(0, 0), (0, 1)], id="corner"),
        pytest.param([(6, 9), (6, 10)], id="last corner"),
    ],
)
def test_a_tie_is_one_detection_at_the_first_pixel(pixels):
    p = np.full((7, 11), 3e-4, np.float32)
    for pixel in pixels:
        p[pixel] = 0.45
    rows, columns = np.nonzero(scores_of(p))
    np.testing.assert_array_equal(np.stack([rows, columns], 1), [min(pixels)])


@pytest.mark.parametrize("second", [0.9, 0.899])
def test_two_pixels_above_the_split_are_two_emitters(second):
    """Equal or not: a rounding difference must not decide how many there are."""
    p = np.zeros((7, 11), np.float32)
    p[3, 4], p[3, 5] = 0.9, second
    np.testing.assert_array_equal(np.argwhere(scores_of(p)), [[3, 4], [3, 5]])


def test_raw_threshold_threshold_and_neighbours():
    p = np.zeros((7, 11), np.float32)
    p[1, 1] = 0.09  # below the raw threshold, whatever its neighbours
    p[0, 1] = p[2, 1] = p[1, 0] = p[1, 2] = 0.08
    p[4, 4], p[4, 5] = 0.2, 0.15  # score 0.35 with its neighbour
    p[4, 8] = 0.25  # alone below 0.3
    got = scores_of(p)
    np.testing.assert_array_equal(np.argwhere(got), [[4, 4]])
    np.testing.assert_allclose(got[4, 4], 0.35, rtol=1e-6)
    assert np.count_nonzero(scores_of(p, threshold=torch.tensor([0.36]))) == 0
    assert np.count_nonzero(scores_of(p, threshold=0.2)) == 2


def test_saturated_and_empty_frames():
    assert np.count_nonzero(scores_of(np.full((5, 9), 3.35e-4, np.float32))) == 0
    np.testing.assert_array_equal(scores_of(np.full((5, 9), 0.9997, np.float32)), 1.0)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 23)),
    rows=st.integers(1, 600),
    seed=st.integers(0, 999),
)
def test_table_holds_the_best_detections(shape, rows, seed):
    maps = random_maps(np.random.default_rng(seed), shape)
    scores = detection_scores(maps[:, 0], DEFAULT)
    table, counts = detection_table(maps, scores, rows)
    every = localize(maps, DEFAULT, first_frame=5)
    assert table.shape == (shape[0], rows, len(DETECTION_COLUMNS))
    assert counts.dtype == torch.int64
    for frame in range(shape[0]):
        mine = every[every["frame"] == frame + 5]
        assert counts[frame] == len(mine)
        n = min(rows, len(mine))
        got = table[frame].numpy()
        np.testing.assert_array_equal(got[n:], 0)
        best = np.sort(mine["prob"])[::-1][:n]
        np.testing.assert_array_equal(got[:n, COLUMN["prob"]], best)
        if rows >= len(mine):  # otherwise ties may choose
            mine = np.sort(mine, order=["x_px", "y_px"])
            got = got[:n]
            got = got[np.lexsort((got[:, COLUMN["y_px"]], got[:, COLUMN["x_px"]]))]
            for name, index in COLUMN.items():
                if name != "p_pixel":
                    np.testing.assert_allclose(got[:, index], mine[name], atol=1e-5)


def test_table_columns_come_from_their_channels():
    maps = torch.arange(10.0).reshape(1, 10, 1, 1).expand(1, 10, 5, 8).clone() * 100
    scores = torch.zeros(1, 5, 8)
    scores[0, 3, 6] = 0.5
    table, counts = detection_table(maps, scores, 3)
    np.testing.assert_array_equal(counts.numpy(), [1])
    np.testing.assert_allclose(
        table[0, 0], [0.5, 206, 303, 400, 100, 900, 600, 700, 800, 500, 0]
    )


def test_more_detections_than_rows_are_counted():
    p = torch.zeros(1, 12, 16)
    p[0, ::2, ::2] = 0.8
    maps = torch.cat([p[:, None], torch.zeros(1, 9, 12, 16)], 1)
    table, counts = detection_table(maps, detection_scores(p, DEFAULT), 7)
    np.testing.assert_array_equal(counts.numpy(), [48])
    assert np.all(table[0, :, 0].numpy() > 0)


def test_physical_scale_follows_the_channels():
    scaling = Scaling(
        input_offset_photons=1,
        input_scale_photons=2,
        photons_max=3,
        z_max_nm=5,
        background_max=7,
    )
    named = dict(zip(PHYSICAL_CHANNELS, physical_scale(scaling), strict=True))
    assert named["photons"] == named["photons_sigma"] == 3
    assert named["z_nm"] == named["z_sigma_nm"] == 5
    assert named["background_photons"] == 7
    assert {named[k] for k in ("p", "x_px", "y_px", "x_sigma_px", "y_sigma_px")} == {1}


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        pytest.param({}, 0.0, id="empty"),
        pytest.param({(2, 3): 1.0}, 0.0, id="sure"),
        pytest.param({(2, 3): 0.5}, 0.25, id="there or not"),
        pytest.param({(2, 3): 0.5, (2, 4): 0.5}, 0.0, id="one, in either pixel"),
        pytest.param({(2, 3): 0.4, (3, 3): 0.4}, 0.16, id="one, perhaps"),
        pytest.param({(1, 1): 0.5, (3, 5): 0.5}, 0.5, id="two far apart"),
        pytest.param({(2, 3): 1.0, (2, 4): 1.0}, 0.0, id="two side by side"),
        pytest.param({(0, 0): 0.5, (4, 6): 0.5}, 0.5, id="corners do not touch"),
    ],
)
def test_variance_of_the_number(
    pixels: dict[tuple[int, int], float], expected: float
) -> None:
    p = torch.zeros(2, 5, 7)
    for (row, column), value in pixels.items():
        p[1, row, column] = value
    found = count_variance(p)
    np.testing.assert_allclose(found.numpy(), [0.0, expected], atol=1e-6)
