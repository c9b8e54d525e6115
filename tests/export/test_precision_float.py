"""An int8 graph in float: exact weights, every ReLU again, and an fp32 model of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export import convert, verify
from blinkloop.export.engine import build_engine
from blinkloop.export.model_file import load_model
from blinkloop.export.precision_float import float_card, to_float
from blinkloop.export.probe import probe_movies
from blinkloop.export.reference import reference_maps
from blinkloop.export.verify_converted import distance_in_conversions, graph_maps
from blinkloop.export.weights import make_network, weights_inside, weights_of
from blinkloop.runtime.model import read_model
from blinkloop.schema import LossLimits, ModelCard, Tolerances

LOOSE = LossLimits(jaccard_points=100, rmse_percent=1e6, density_points=1e6)


@dataclass(frozen=True)
class Rounded:
    """An int8 file, and the fp32 file it was made from."""

    path: Path
    model: Any
    card: ModelCard
    source: Any


@pytest.fixture(scope="module")
def rounded(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Rounded:
    path = tmp_path_factory.mktemp("int8") / "tiny-int8.onnx"
    convert(exported.path, path, "int8", limits=LOOSE, frames=3, allow_loss=True)
    model, card = load_model(path)
    return Rounded(path, model, card, load_model(exported.path)[0])


def values_of(model: Any) -> dict[str, Any]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def kinds_of(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_weights_are_exactly_the_rounded_ones(rounded: Rounded) -> None:
    before = rounded.model.SerializeToString()
    graph = to_float(rounded.model)
    assert rounded.model.SerializeToString() == before
    onnx.checker.check_model(graph, full_check=True)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(kinds_of(graph))
    whole, ours = values_of(rounded.model), values_of(graph)
    theirs = values_of(rounded.source)
    names = {name for name in theirs if name.startswith("network.")}
    assert {name for name in ours if name.startswith("network.")} == names
    steps = 0
    for name in names:
        assert ours[name].dtype == np.float32
        assert ours[name].shape == theirs[name].shape
        if f"{name}_quantized" not in whole:
            np.testing.assert_array_equal(ours[name], whole[name])
            continue
        steps += 1
        kind = "scale" if name.endswith("weight") else "quantized_scale"
        scale = whole[f"{name}_{kind}"]
        scale = scale.reshape(-1, *[1] * (ours[name].ndim - 1))
        expected = whole[f"{name}_quantized"].astype(np.float32) * scale
        np.testing.assert_array_equal(ours[name], expected)
        # And these are the network's weights, to half a step.
        assert (np.abs(ours[name] - theirs[name]) <= 0.51 * scale).all()
    assert steps > 8


def test_it_is_the_network_of_these_weights(rounded: Rounded) -> None:
    """PyTorch with the rounded weights; a ReLU left out would show."""
    graph = to_float(rounded.model)
    card = float_card(rounded.card, "ab" * 32)
    network = make_network(card.architecture, weights_inside(graph), source="here")
    for movie in probe_movies(card)[:2]:
        ours = graph_maps(graph, card, movie.photons)
        theirs = reference_maps(network, card, movie.photons)
        size = np.maximum(1.0, np.abs(theirs).max((0, 2, 3), keepdims=True))
        np.testing.assert_allclose(ours / size, theirs / size, atol=2e-5)


def test_a_relu_in_a_step_stands_again() -> None:
    """Of a step whose zero point is the least number, and of no other."""
    make, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    for kind, zero, wanted in (
        (np.uint8, 0, "Relu"),
        (np.uint8, 7, "Identity"),
        (np.int8, -128, "Relu"),
        (np.int8, 0, "Identity"),
    ):
        port = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [
                make("QuantizeLinear", ["x", "s", "z"], ["q"]),
                make("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            "one step",
            [port("x", 1, [3])],
            [port("y", 1, [3])],
            [array(np.float32(0.5), "s"), array(kind(zero), "z")],
        )
        found = to_float(onnx.helper.make_model(graph))
        assert kinds_of(found) == [wanted]
        assert list(found.graph.node[0].output) == ["y"]
        assert not found.graph.initializer


def test_8_bits_from_elsewhere_are_refused(rounded: Rounded) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(rounded.model)
    step = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    step.op_type = "Cast"
    with pytest.raises(CheckFailedError, match="reads 8 bits in") as caught:
        to_float(model)
    assert "\n" not in str(caught.value)


def test_closer_to_fp32_than_int8_is(rounded: Rounded) -> None:
    graph = to_float(rounded.model)
    of_int8 = distance_in_conversions(rounded.model, rounded.source, rounded.card)
    of_float = distance_in_conversions(graph, rounded.source, rounded.card)
    # What the conversion changed is what it is measured in (tolerances have a floor).
    assert 0.3 < of_int8 < 1.2
    assert of_float < 0.8 * of_int8


def test_the_card_says_what_was_done(rounded: Rounded) -> None:
    card = float_card(rounded.card, "cd" * 32)
    assert card.precision is None
    assert card.precision_name == "fp32"
    assert card.accuracy == {}
    assert card.tolerances == Tolerances()
    assert not {"record", "weights_sha256"} & card.provenance.keys()
    assert rounded.card.precision is not None
    assert card.provenance["rounded"] == {
        "weights": "int8, by output channel",
        "between_layers": "float",
        "kept_float": list(rounded.card.precision.kept_float),
        "int8_model": rounded.card.name,
        "int8_sha256": "cd" * 32,
        "fp32_sha256": rounded.card.precision.source_sha256,
    }
    assert ModelCard.from_json(card.to_json()) == card
    with pytest.raises(ValueError, match="fp32 model already"):
        float_card(card, "")


def test_an_int8_file_as_an_fp32_model(
    rounded: Rounded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exported; that the export itself is right: `test_engine_bundled`."""
    asked: list[Any] = []
    module = importlib.import_module("blinkloop.export.renew")

    def export(*words: Any) -> ModelCard:
        asked.append(words)
        card: ModelCard = words[1]
        return card

    monkeypatch.setattr(module, "export_onnx", export)
    out = tmp_path / "again.onnx"
    card = convert(rounded.path, out, "fp32")
    ((network, given, path),) = asked
    assert (given, path) == (card, out)
    assert card.name == "tiny-int8-fp32"
    assert card.provenance["rounded"]["int8_sha256"] == read_model(rounded.path).sha256
    weights, expected = weights_of(network), weights_inside(to_float(rounded.model))
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value)
    with pytest.raises(InputError, match="which --precision fp32 makes"):
        convert(rounded.path, tmp_path / "half.onnx", "fp16")


# --- engines ---


def test_an_engine_of_an_int8_file(rounded: Rounded, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    from built_engine import SPEC

    from blinkloop.engine_kinds import engine_kind
    from blinkloop.runtime.backends.tensorrt_engine import find_engine

    file, out = read_model(rounded.path), tmp_path / "tiny-int8.rtx"
    header = build_engine(rounded.path, out, spec=SPEC, use_cache=False)
    assert header.onnx_sha256 == file.sha256
    assert header.precision == ("float32",)
    assert header.card == float_card(file.card, file.sha256)
    assert read_model(out).sha256 == file.sha256
    copy = tmp_path / "tiny-int8.onnx"
    copy.write_bytes(rounded.path.read_bytes())
    assert find_engine(read_model(copy), engine_kind("tensorrt-rtx")) == out


def test_tensorrt_does_not_take_the_file_as_it_is(rounded: Rounded) -> None:
    """What `to_float` is there for; when this fails, it may go."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    from built_engine import SPEC

    from blinkloop.export.engine_builder import serialize_engine
    from blinkloop.export.engine_spec import profile

    with pytest.raises(CheckFailedError, match="cannot build an engine") as caught:
        serialize_engine(
            trt,
            rounded.model.SerializeToString(),
            profile(rounded.card, SPEC.sizes),
            tf32=False,
            compute_capabilities=SPEC.compute_capabilities,
        )
    assert "\n" not in str(caught.value)


def test_an_engine_of_another_network_is_not_built(
    rounded: Rounded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")

    def wrong(model: Any) -> Any:
        graph = to_float(model)
        for tensor in graph.graph.initializer:
            if tensor.name == "network.context.base.0.weight":
                values = onnx.numpy_helper.to_array(tensor)[:, ::-1]
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return graph

    monkeypatch.setattr("blinkloop.export.engine.to_float", wrong)
    with pytest.raises(CheckFailedError, match="times as far off as int8 is") as caught:
        build_engine(rounded.path, tmp_path / "e.rtx", use_cache=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_verify_holds_an_engine_to_the_rounded_weights(
    rounded: Rounded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is not there: ONNX Runtime, on the one graph and on the other."""
    module = importlib.import_module("blinkloop.export.verify")
    plain, fp32 = module.create_backend, tmp_path / "fp32.onnx"
    graph, card = to_float(rounded.model), float_card(rounded.card, "")
    entry = graph.metadata_props[0]
    entry.value = card.to_json()
    fp32.write_bytes(graph.SerializeToString())

    def engine_of(path: Path) -> Any:
        def create(name: str, model: Any, maps: Any, **rest: Any) -> Any:
            backend = plain("onnxruntime-cpu", read_model(path), maps, **rest)
            backend.name = name
            return backend

        return create

    problems = []
    for path in (fp32, rounded.path):
        monkeypatch.setattr(module, "create_backend", engine_of(path))
        row = verify(rounded.path, ["tensorrt-rtx"])[1]
        assert row.backend == "tensorrt-rtx"
        problems.append(row.problem)
    assert problems[0] == ""
    assert problems[1] != ""
