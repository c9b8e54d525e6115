"""The streaming module in PyTorch against the three-frame network on whole movies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import LITE, ROWS, make_card, make_random_network

from blinkloop.export.probe import probe_movies
from blinkloop.export.reference import reference_maps
from blinkloop.export.streaming import INPUT_NAMES, OUTPUT_NAMES, StreamingNetwork
from blinkloop.schema import DETECTION_COLUMNS, Architecture
from blinkloop.training.detection import PHYSICAL_CHANNELS, localize

ARCHITECTURES = {
    "depth 1": Architecture(features=4, depth=1),
    "depth 2": Architecture(features=4, depth=2),
    "strided": Architecture(features=3, depth=2, stem_stride=2),
    "lite": LITE,
}


def build(name):
    card = make_card(ARCHITECTURES[name])
    network = make_random_network(card.architecture)
    return StreamingNetwork(network, card.scaling, card.detection).eval(), card


@torch.no_grad()
def stream(module, card, adu, chunks, *, offset=None, gain=None, threshold=None):
    """Outputs of all frames by name, the last frame flushed."""
    _, height, width = adu.shape
    size = card.architecture.feature_size(height, width)
    # What is there before a segment must not matter.
    features = torch.full((2, card.architecture.kept_channels, *size), torch.nan)
    kept = {name: [] for name in OUTPUT_NAMES}
    first = 0
    for index, count in enumerate([*chunks, 1]):
        flush = index == len(chunks)
        call = adu[-1:] if flush else adu[first : first + count]
        out = module(
            torch.from_numpy(call),
            features,
            torch.tensor([float(index == 0)]),
            torch.as_tensor(0.0 if offset is None else offset).reshape(
                (1, 1) if offset is None else offset.shape
            ),
            torch.as_tensor(1.0 if gain is None else gain).reshape(
                (1, 1) if gain is None else gain.shape
            ),
            torch.tensor(
                [card.detection.threshold if threshold is None else threshold]
            ),
        )
        named = dict(zip(OUTPUT_NAMES, out, strict=True))
        features = named["features_out"]
        for name, value in named.items():
            kept[name].append(value if name == "features_out" else value[index == 0 :])
        first += count
    return {name: torch.cat(values).numpy() for name, values in kept.items()}


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_any_chunking_equals_the_whole_movie_at_once(name):
    module, card = build(name)
    for movie in probe_movies(card):
        expected = reference_maps(module.network, card, movie.photons)
        scale = np.abs(expected).max((0, 2, 3)).reshape(1, -1, 1, 1)
        for chunks in movie.chunkings:
            got = stream(module, card, movie.photons, chunks)
            np.testing.assert_allclose(got["maps"] / scale, expected / scale, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
)
def test_sums_and_table_follow_from_the_maps(chunks, height, width):
    module, card = build("depth 1")
    rng = np.random.default_rng(height * 20 + width)
    photons = rng.gamma(0.4, 60, (sum(chunks), height, width)).astype(np.float32)
    got = stream(module, card, photons, chunks)
    maps, p = got["maps"], got["maps"][:, 0]
    assert maps.shape == (len(photons), len(PHYSICAL_CHANNELS), height, width)
    np.testing.assert_allclose(got["count_mean"], p.sum((1, 2)), rtol=1e-5)
    padded = np.pad(p, ((0, 0), (1, 1), (1, 1)))
    cross = p + padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    cross = cross + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    np.testing.assert_allclose(
        got["count_variance"],
        (p * (1 - np.minimum(cross, 1))).sum((1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )
    for row in range(-(-height // 8)):
        for column in range(-(-width // 8)):
            part = p[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            np.testing.assert_allclose(
                got["block_mean"][:, row, column], part.sum((1, 2)), rtol=1e-5
            )
    assert got["block_mean"].shape[1:] == (-(-height // 8), -(-width // 8))
    found = localize(torch.from_numpy(maps), card.detection)
    counts = np.bincount(found["frame"], minlength=len(photons))
    np.testing.assert_array_equal(got["counts"], counts)
    filled = (got["detections"][:, :, 0] > 0).sum(1)
    np.testing.assert_array_equal(filled, np.minimum(counts, ROWS))


def test_camera_maps_convert_to_photons():
    module, card = build("depth 2")
    rng = np.random.default_rng(5)
    photons = rng.gamma(0.4, 60, (4, 9, 14)).astype(np.float32)
    offset = rng.uniform(90, 110, (9, 14)).astype(np.float32)
    gain = rng.uniform(0.3, 0.6, (9, 14)).astype(np.float32)
    expected = stream(module, card, photons, [4])
    adu = photons / gain + offset
    got = stream(module, card, adu, [4], offset=offset, gain=gain)
    scale = np.abs(expected["maps"]).max((0, 2, 3)).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(got["maps"] / scale, expected["maps"] / scale, atol=1e-4)


def test_the_threshold_is_an_input():
    module, card = build("depth 2")
    photons = np.random.default_rng(6).gamma(0.4, 60, (3, 17, 21)).astype(np.float32)
    score = DETECTION_COLUMNS.index("prob")
    counts = []
    for threshold in (0.2, 0.35, 0.7):
        got = stream(module, card, photons, [3], threshold=threshold)
        table = got["detections"][:, :, score]
        assert np.all(table[table > 0] >= threshold)
        counts.append(int(got["counts"].sum()))
    assert counts[0] > counts[1] > counts[2] > 0


def test_a_full_table_is_told_by_the_count():
    module, card = build("depth 2")
    photons = np.random.default_rng(7).gamma(0.3, 90, (2, 41, 37)).astype(np.float32)
    got = stream(module, card, photons, [2])
    assert got["counts"].min() > ROWS
    assert got["detections"][:, :, 0].min() > 0


@pytest.mark.parametrize("level", [0.0, 20.0, 65535.0], ids=["black", "flat", "white"])
def test_frames_without_structure_give_finite_numbers(level):
    module, card = build("strided")
    got = stream(module, card, np.full((3, 11, 26), level, np.float32), [1, 2])
    for values in got.values():
        assert np.isfinite(values).all()


def test_the_scale_is_no_weight():
    module, _ = build("depth 1")
    assert all(name.startswith("network.") for name in module.state_dict())
    assert len(INPUT_NAMES) == 6
