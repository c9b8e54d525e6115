"""fp16 and int8 models: what is inside, what they lose, when they are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export import convert, verify
from blinkloop.export import precision as precision_module
from blinkloop.export.graph import graph_problems
from blinkloop.export.model_file import load_model
from blinkloop.export.onnx_runs import OnnxRun
from blinkloop.export.precision_fp16 import to_fp16
from blinkloop.export.precision_graph import anatomy, short_name
from blinkloop.export.precision_int8 import to_int8
from blinkloop.export.verify_converted import ConvertedComparison, graph_maps
from blinkloop.export.verify_frames import (
    calibration_feeds,
    condition_beside,
    densities_of,
    loss_movies,
)
from blinkloop.export.verify_loss import broken_limits, measure_loss
from blinkloop.export.weights import read_model_weights
from blinkloop.runtime.model import read_model
from blinkloop.schema import (
    LossLimits,
    ModelCard,
    PrecisionLoss,
    SplinePsfSettings,
)

TIGHT = LossLimits(jaccard_points=100, rmse_percent=1e6, density_points=0)
FEW_FRAMES = 3


def feeds_of(card):
    return calibration_feeds(card, condition_beside(card, []), seed=0)


def values_of(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.fixture(scope="session", params=["int8", "fp16"])
def converted(request, exported, tmp_path_factory):
    """Each tiny model in fewer bits; random networks may lose anything."""
    # A file's name is the model's where it says of which it is.
    file = {"int8": "model.onnx", "fp16": "tiny-half.onnx"}[request.param]
    path = tmp_path_factory.mktemp("precision") / file
    card = convert(
        exported.path,
        path,
        request.param,
        limits=TIGHT,
        frames=FEW_FRAMES,
        allow_loss=True,
    )
    return path, card


def test_the_file_says_what_it_is_and_verifies_against_itself(exported, converted):
    path, card = converted
    assert list(path.parent.iterdir()) == [path]
    assert read_model(path).card == card
    assert card.precision_name == card.precision.name
    assert card.name == {"int8": "tiny-int8", "fp16": "tiny-half"}[card.precision_name]
    assert card.precision.source_sha256 == read_model(exported.path).sha256
    assert [row.density_per_um2 for row in card.precision.loss] == [0.2, 1.0, 2.0]
    # Asked for although more is lost than nothing.
    assert card.precision.beyond_limits
    assert card.accuracy == {}
    assert "record" not in card.provenance
    weights = exported.card.provenance["weights_sha256"]
    assert card.provenance["weights_sha256"] == weights
    model, _ = load_model(path)
    assert graph_problems(model, card, set()) == []
    rows = verify(path, ["onnxruntime-cpu"])
    assert [row.backend for row in rows] == ["file", "onnxruntime-cpu"]
    assert [row.problem for row in rows] == ["", ""]


@pytest.mark.parametrize(
    ("densest", "wanted"),
    [(6.0, (0.2, 1.0, 2.0)), (2.0, (0.2, 1.0, 2.0)), (0.74, (0.074, 0.37, 0.74))],
)
def test_densities_stay_inside_the_range(exported, densest, wanted):
    ranges = exported.card.training_ranges
    known = ranges.model_copy(update={"density_per_um2": (0.0, densest)})
    card = exported.card.model_copy(update={"training_ranges": known})
    assert densities_of(card) == wanted


def test_answers_stay_close_to_fp32(exported, converted):
    path, card = converted
    model, _ = load_model(path)
    before, _ = load_model(exported.path)
    (movie,) = loss_movies(
        card, condition_beside(card, []), seed=1, frames=2, densities=(2.0,)
    )
    adu = movie.scene.frames_adu[0][:3, :31, :45]
    photons = ((adu - 90) * 0.4 / 0.9).astype(np.float32)
    ours = graph_maps(model, card, photons)
    theirs = graph_maps(before, exported.card, photons)
    spread = theirs.std((0, 2, 3))
    difference = np.sqrt(np.mean((ours - theirs) ** 2, (0, 2, 3)))
    # Random weights are hard on 8 bits: up to 0.33 here; a wrong scale gives above 1.
    most = 0.5 if card.precision_name == "int8" else 0.02
    np.testing.assert_array_less(difference, most * spread)
    # And it is another network: a conversion that does nothing converts nothing.
    assert difference.max() > 0


def test_fp32_cards_are_what_they_were(exported):
    assert exported.card.precision_name == "fp32"
    assert (
        '"precision":'
        not in exported.card.model_copy(
            update={"accuracy": {}, "provenance": {}}
        ).to_json()
    )


@pytest.fixture
def relu(exported):
    """The graph of a tiny network with ReLU in place of ELU, as the lite ones have."""
    model, card = load_model(exported.path)
    for node in model.graph.node:
        if node.op_type == "Elu":
            node.op_type = "Relu"
            del node.attribute[:]  # alpha, which ReLU has not
    return model, card


def test_int8_has_7_bit_weights_by_channel_and_floats_where_they_matter(relu):
    model, card = relu
    before = onnx.ModelProto()
    before.CopyFrom(model)
    quantized, floats = to_int8(model, feeds_of(card), logit_clamp=8.0)
    assert model == before
    onnx.checker.check_model(quantized, full_check=True)
    heads = {f"head_{n}.out" for n in ("p", "position", "sigma", "background")}
    depth = card.architecture.context_levels
    first = "stem.0" if card.architecture.stem_stride > 1 else "analysis.down.0.0"
    shared = {f"context.up.{depth - 1}.2", "context.out"}
    assert set(floats) == heads | shared | {first}
    values = values_of(quantized)
    names = {short_name(node) for node in anatomy(model.graph).convolutions}
    for name in names - set(floats):
        weight = values[f"network.{name}.weight_quantized"]
        assert weight.dtype == np.int8
        assert np.abs(weight).max() <= 64
        scale = values[f"network.{name}.weight_scale"]
        assert scale.shape == weight.shape[:1]
        original = values_of(model)[f"network.{name}.weight"]
        rounded = weight * scale[:, None, None, None]
        assert (np.abs(rounded - original) <= scale[:, None, None, None] * 0.51).all()
    for name in floats:
        assert values[f"network.{name}.weight"].dtype == np.float32


def test_the_heads_keep_their_means(relu):
    model, card = relu
    feeds = feeds_of(card)
    quantized, _ = to_int8(model, feeds, logit_clamp=8.0)
    ours, theirs = (
        sum(float(OnnxRun(m).value("count_mean", feed)[1:].sum()) for feed in feeds)
        for m in (quantized, model)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_fp16_leaves_convolutions_that_would_overflow_in_float(relu):
    model, card = relu
    loud = onnx.ModelProto()
    loud.CopyFrom(model)
    for tensor in loud.graph.initializer:
        if tensor.name == "network.analysis.base.0.weight":
            large = onnx.numpy_helper.to_array(tensor) * np.float32(1e7)
            tensor.CopyFrom(onnx.numpy_helper.from_array(large, tensor.name))
    feeds = feeds_of(card)
    assert to_fp16(model, feeds)[1] == ()
    half, floats = to_fp16(loud, feeds)
    assert "analysis.base.0" in floats
    assert "analysis.base.2" in floats  # reads what the other one gives
    values = values_of(half)
    names = {short_name(node) for node in anatomy(loud.graph).convolutions}
    for name in names - set(floats):
        assert values[f"network.{name}.weight_fp16"].dtype == np.float16
        assert f"network.{name}.weight" not in values
    assert values["network.analysis.base.0.weight"].dtype == np.float32
    onnx.checker.check_model(half, full_check=True)
    maps = graph_maps(half, card, np.full((1, 9, 5), 30, np.float32))
    assert maps.shape == (1, 10, 9, 5)
    assert np.isfinite(maps).all()


def test_too_much_loss_is_refused_in_one_line(exported, tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the old one")
    with pytest.raises(CheckFailedError, match="--allow-loss writes it") as caught:
        convert(exported.path, target, "int8", limits=TIGHT, frames=FEW_FRAMES)
    assert "points of density at" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [target]


def loss(**changes):
    row = {
        "density_per_um2": 1.0,
        "emitters": 9,
        "jaccard_points": 0.0,
        "rmse_lateral_percent": 0.0,
        "rmse_axial_percent": 0.0,
        "rmse_all_percent": (0.0, 0.0),
        "density_bias_percent": (1.0, 1.0),
        "z_score_sd": {"x": (1.0, 1.0)},
    }
    return PrecisionLoss(**row | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"jaccard_points": -1.0}, []),
        ({"jaccard_points": -1.01}, ["1.01 points of Jaccard at 1 per um^2"]),
        ({"jaccard_points": 7.0, "rmse_lateral_percent": -9.0}, []),
        ({"rmse_lateral_percent": 5.2}, ["5.2 % of lateral RMSE at 1 per um^2"]),
        ({"rmse_axial_percent": 5.2}, ["5.2 % of axial RMSE at 1 per um^2"]),
        ({"rmse_axial_percent": None}, []),
        ({"density_bias_percent": (2.0, -0.1)}, ["2.1 points of density"]),
        ({"jaccard_points": float("nan")}, ["nan points of Jaccard"]),
        ({"rmse_axial_percent": float("nan")}, ["nan % of axial RMSE"]),
    ],
)
def test_limits(changes, words):
    broken = broken_limits([loss(**changes)], LossLimits())
    assert len(broken) == len(words)
    for text, word in zip(broken, words, strict=True):
        assert word in text


def test_a_model_loses_nothing_against_itself(exported):
    condition = condition_beside(exported.card, [])
    movies = loss_movies(exported.card, condition, seed=0, frames=3, densities=(2.0,))
    (row,) = measure_loss(exported.path, exported.path, movies, condition)
    assert row.emitters > 0
    assert (row.jaccard_points, row.rmse_lateral_percent) == (0, 0)
    assert row.rmse_all_percent == (0, 0)
    assert row.density_bias_percent[0] == row.density_bias_percent[1]


def test_a_damaged_weight_is_found(converted, tmp_path):
    path, _ = converted
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if ".hidden.weight" in t.name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "damaged.onnx")
    rows = verify(tmp_path / "damaged.onnx", [])
    assert "is not the one that was converted" in rows[0].problem


def test_a_backend_as_far_off_as_the_conversion_fails(converted):
    _, card = converted
    shape = (10, 7, 9)
    reference = np.full(shape, 0.5, np.float32)
    off = reference.copy()
    off[2] += card.tolerances.position_px / 2  # allowed for one pixel, not for all
    comparison = ConvertedComparison("made up", card)
    comparison.maps("here", reference, reference)
    assert comparison.row().passed
    comparison = ConvertedComparison("made up", card)
    comparison.maps("here", off, reference)
    assert "RMS (allowed" in comparison.row().problem


def test_what_cannot_be_converted(exported, converted, tmp_path):
    path, card = converted
    name = card.precision_name
    with pytest.raises(InputError, match=f"converted to {name} already"):
        convert(path, tmp_path / "x.onnx", "fp16")
    with pytest.raises(InputError, match="no precision 'int4'"):
        convert(exported.path, tmp_path / "x.onnx", "int4")
    with pytest.raises(InputError, match="no longer holds the network's weights"):
        read_model_weights(path)
    with pytest.raises(InputError, match="without --run"):
        verify(path, [], run=tmp_path)
    psf = SplinePsfSettings.model_construct(file="beads.h5")
    measured: ModelCard = exported.card.model_copy(update={"psf": psf})
    with pytest.raises(InputError, match=r"put that file beside the model"):
        condition_beside(measured, [tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_fp32_exports_the_weights_again(exported, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        precision_module, "renew", lambda *paths: asked.append(paths) or exported.card
    )
    target = tmp_path / "again.onnx"
    assert convert(exported.path, target, "fp32") == exported.card
    assert asked == [(exported.path, target)]
