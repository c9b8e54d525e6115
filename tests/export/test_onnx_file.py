"""The file `export_onnx` writes, and that it writes none when something is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_networks import make_card, make_random_network

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export import export_onnx, update_card, verify
from blinkloop.export import onnx_file as onnx_file_module
from blinkloop.export.graph import graph_problems
from blinkloop.export.streaming import INPUT_NAMES, OUTPUT_NAMES, StreamingNetwork
from blinkloop.export.weights import read_model_weights, weights_of, weights_sha256
from blinkloop.runtime.model import read_model
from blinkloop.schema import Architecture


def test_the_file_holds_card_weights_and_nothing_of_this_machine(exported):
    assert read_model(exported.path).card == exported.card
    assert list(exported.path.parent.iterdir()) == [exported.path]
    weights, card = read_model_weights(exported.path)
    assert card == exported.card
    expected = weights_of(exported.network)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value)
    assert card.provenance["weights_sha256"] == weights_sha256(weights)
    content = exported.path.read_bytes()
    for word in (b"/work", b"site-packages", bytes(Path.cwd()), b"stack_trace"):
        assert word not in content


def test_weights_that_are_equal_stay_apart(tmp_path):
    """PyTorch's exporter would make one initializer of them."""
    architecture = Architecture(features=3, depth=0, activation="relu")
    network = make_random_network(architecture, seed=5)
    with torch.no_grad():
        network.head_sigma.hidden.weight.copy_(network.head_p.hidden.weight)
        network.context.base[2].weight.fill_(1 / 27)
        network.analysis.base[2].weight.fill_(1 / 27)
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                value.fill_(float(name.startswith("analysis")))
    kept = weights_of(network)
    path = tmp_path / "equal.onnx"
    export_onnx(network, make_card(architecture), path)
    weights, _ = read_model_weights(path)
    for name, value in weights_of(network).items():
        # Exporting leaves the network itself alone, too.
        np.testing.assert_array_equal(value, kept[name])
        np.testing.assert_array_equal(weights[name], value)
    # Each convolution reads its own: int8 tells the heads apart by their names.
    graph = onnx.load(path).graph
    ports = [list(node.input[1:]) for node in graph.node if node.op_type == "Conv"]
    assert len({name for names in ports for name in names}) == len(kept)
    for weight, bias in ports:
        assert weight.removesuffix(".weight") == bias.removesuffix(".bias")


@pytest.mark.parametrize("size", [(13, 22), (8, 4), (1, 9)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("start", [True, False], ids=["start", "on"])
def test_every_output_equals_that_of_pytorch(exported, size, count, start):
    architecture = exported.card.architecture
    rng = np.random.default_rng(count)
    kept = (2, architecture.kept_channels, *architecture.feature_size(*size))
    feed = {
        "frames": rng.gamma(0.4, 100, (count, *size)) + 90,
        "features_in": rng.normal(0, 1, kept),
        "segment_start": np.array([start]),
        "offset_adu": rng.uniform(85, 95, size),
        "photons_per_adu": np.array([[0.45]]),
        "threshold": np.array([0.3]),
    }
    feed = {name: value.astype(np.float32) for name, value in feed.items()}
    session = onnxruntime.InferenceSession(
        exported.path, providers=["CPUExecutionProvider"]
    )
    assert tuple(port.name for port in session.get_inputs()) == INPUT_NAMES
    got = dict(zip(OUTPUT_NAMES, session.run(list(OUTPUT_NAMES), feed), strict=True))
    card = exported.card
    module = StreamingNetwork(exported.network, card.scaling, card.detection).eval()
    with torch.no_grad():
        out = module(*(torch.from_numpy(feed[name]) for name in INPUT_NAMES))
    for name, value in zip(OUTPUT_NAMES, out, strict=True):
        expected = value.numpy()
        assert got[name].dtype == expected.dtype
        if name == "detections":
            continue  # rows of equal score may come in another order: see verify
        size_of = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(
            got[name] / size_of, expected / size_of, atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(
        got["detections"][:, :, 0], out[0][:, :, 0].numpy(), atol=1e-5
    )


def test_a_failed_check_leaves_the_old_file(exported, tmp_path, monkeypatch):
    network, card = exported.network, make_card(exported.card.architecture)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old one")

    # A double of the exporter: a graph with a weight that is not the network's.
    def build_wrong(*args, **kwargs):
        model = onnx.load(exported.path)
        for tensor in model.graph.initializer:
            if tensor.name == "network.head_p.out.bias":
                values = onnx.numpy_helper.to_array(tensor) + np.float32(3)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr(onnx_file_module, "build_graph", build_wrong)
    with pytest.raises(CheckFailedError, match=r"p differs by .* was not written"):
        export_onnx(network, card, path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def rename_output(model):
    model.graph.output[1].name = "count"
    for node in model.graph.node:
        node.output[:] = ["count" if o == "counts" else o for o in node.output]


def drop_weight(model):
    model.graph.initializer[0].name = "elsewhere"


def fix_height(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (rename_output, "outputs are"),
        (drop_weight, "1 weights are missing"),
        (fix_height, "frames is"),
    ],
)
def test_structural_problems_are_all_named(exported, damage, words):
    model = onnx.load(exported.path)
    names = {f"network.{name}" for name in exported.network.state_dict()}
    assert graph_problems(model, exported.card, names) == []
    damage(model)
    assert words in "; ".join(graph_problems(model, exported.card, names))


def test_bad_targets_and_cards_are_input_errors(tmp_path):
    architecture = Architecture(features=2, depth=1)
    network, card = make_random_network(architecture), make_card(architecture)
    other = make_card(Architecture(features=3, depth=1))
    with pytest.raises(InputError, match="the card describes"):
        export_onnx(network, other, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="is a folder"):
        export_onnx(network, card, tmp_path)
    with pytest.raises(InputError, match="a folder that exists"):
        export_onnx(network, card, tmp_path / "none" / "model.onnx")


def test_accuracy_can_be_written_into_the_card_and_nothing_else_changes(
    exported, tmp_path
):
    path = tmp_path / "copy.onnx"
    shutil.copy(exported.path, path)
    rule = exported.card.detection.model_copy(update={"threshold": 0.6})
    card = update_card(
        path, accuracy={"jaccard": 0.7}, detection=rule, provenance={"note": "by me"}
    )
    assert read_model(path).card == card
    assert card.accuracy == {"jaccard": 0.7}
    assert card.detection.threshold == 0.6
    assert card.provenance == {**exported.card.provenance, "note": "by me"}
    assert all(row.passed for row in verify(path))
    with pytest.raises(InputError, match="tells what was exported"):
        update_card(path, provenance={"record": {}})
    for name, value in {"max_detections": 5, "split": 0.8}.items():
        with pytest.raises(InputError, match=f"its {name} is"):
            update_card(path, detection=rule.model_copy(update={name: value}))
    assert list(tmp_path.iterdir()) == [path]
