"""Official weights under our names: the same numbers, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import OURS, golden_network
from torch import Tensor

from blinkloop.errors import InputError
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.official import disable, from_official, mirror, read_state


@pytest.fixture
def state() -> dict[str, Tensor]:
    return golden_network()[0]


@pytest.fixture
def frames() -> Tensor:
    return torch.from_numpy(golden_network()[1])


def build(state: dict[str, Tensor], *changes) -> TwoStageNetwork:
    """In float64: rounding must not hide a wrong weight."""
    architecture, weights = from_official(state)
    for change in changes:
        weights = change(weights)
    network = TwoStageNetwork(architecture).double().eval()
    network.load_state_dict(weights)
    return network


@torch.inference_mode()
def answer(network: TwoStageNetwork, frames: Tensor) -> np.ndarray:
    return network(frames.double()).numpy()


def test_the_golden_answer_with_our_axes(state, frames) -> None:
    # The golden numbers were computed in float32; 3e-5 is their own rounding.
    got = answer(build(state), frames)
    expected = golden_network()[2][:, OURS]
    rms = np.sqrt(((got - expected) ** 2).mean((0, 2, 3)))
    np.testing.assert_array_less(rms, 1e-5)
    # With x and y left as they were, it is another network.
    assert np.abs(got - golden_network()[2]).max() > 0.1


@pytest.mark.parametrize("axes", [("rows",), ("columns",), ("rows", "columns")])
def test_mirrored_weights_undo_a_mirrored_camera(axes, state, frames) -> None:
    dimensions = [{"rows": -2, "columns": -1}[axis] for axis in axes]
    expected = answer(build(state), frames.flip(dimensions))
    expected = np.flip(expected, dimensions).copy()
    for axis in axes:
        expected[:, {"columns": 2, "rows": 3}[axis]] *= -1
    got = answer(build(state, lambda w: mirror(w, axes)), frames)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.abs(got - answer(build(state), frames)).max() > 0.1


@pytest.mark.parametrize(("number", "channel"), [(1, 3), (2, 2), (3, 4)])
def test_disabled_attributes_are_constant_and_the_rest_is_not_touched(
    number, channel, state, frames
) -> None:
    got = answer(build(state, lambda w: disable(w, [number])), frames)
    expected = answer(build(state), frames)
    expected[:, channel], expected[:, channel + 4] = 0.0, 0.1
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_photons_cannot_be_disabled(state) -> None:
    with pytest.raises(InputError, match="disabled_attributes holds 0"):
        disable(from_official(state)[1], [0])


def renamed(state, change):
    return {change(name): value for name, value in state.items()}


def with_(name, value):
    return lambda state: state | {name: value}


def widen(state):
    """One head as wide again, as with other inter_features."""
    return state | {
        f"unet_shared.out_conv.{kind}": torch.cat([value, value])
        for kind in ("weight", "bias")
        for value in [state[f"unet_shared.out_conv.{kind}"]]
    }


def without(part):
    return lambda state: {k: v for k, v in state.items() if part not in k}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_("no_such_layer.weight", torch.zeros(1)), "'no_such_layer.weight'"),
        (with_("mt_heads.4.out_conv.bias", torch.zeros(1)), "'mt_heads.4.out_conv"),
        (with_("unet_shared.encoder.0.1.bias", torch.zeros(6)), "without normaliz"),
        (with_("unet_shared.encoder.x.0.bias", torch.zeros(6)), "encoder.x"),
        (with_("sigma_eps", torch.tensor([0.01])), "sigma_eps is"),
        (without("poolers"), "pool_mode is not StrideConv"),
        (without("unet_union.poolers.1"), "depth_shared is 2, depth_union 1"),
        (widen, "initial_features is 6, inter_features 12"),
        (
            with_("unet_union.encoder.0.0.weight", torch.zeros(6, 6, 3, 3)),
            "channels_in is 1",
        ),
        (with_("mt_heads.1.out_conv.bias", torch.zeros(5)), "head_position.out.bias"),
        (without("mt_heads.3"), "head_background"),
        (without("unet_union"), "unet_union is missing"),
        (lambda state: {}, "unet_shared is missing"),
        (with_("mt_heads.0.out_conv.bias", torch.tensor([torch.nan])), "not finite"),
        (lambda s: renamed(s, lambda k: k.removeprefix("unet_shared.")), "SigmaMUNet"),
    ],
)
def test_other_networks_are_refused_in_one_line(change, words, state) -> None:
    with pytest.raises(InputError, match=words) as caught:
        from_official(change(state))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model_state"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.module."],
    ids=["plain", "DataParallel", "averaged, compiled"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoints_in_all_wrappings(key, prefix, zipped, state, tmp_path) -> None:
    content = {prefix + name: value.double() for name, value in state.items()}
    if "_" in prefix:
        # As torch.optim.swa_utils.AveragedModel counts.
        content["n_averaged"] = torch.tensor(7)
    if key:
        content = {key: content, "step": 3, "optimizer_state": {"state": {}}}
    path = tmp_path / "model.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    got = read_state(path)
    assert got.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_code_in_a_file_is_not_run(how, tmp_path) -> None:
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        zipped = how == "torch"
        torch.save(Trap(sprung), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="does not; where you trust it") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert not sprung.exists()


def test_a_whole_pickled_network_is_refused(tmp_path) -> None:
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Conv2d(1, 2, 3), path)
    with pytest.raises(InputError, match=r"torch.save\(model.state_dict"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "no state dict .got list"),
        ({}, "no state dict"),
        ({"step": 3}, "'step' is not a tensor but int"),
        ({"recipe": "", "averaged": {}}, "of blinkloop, not of DECODE"),
    ],
)
def test_foreign_content_is_named(content, words, tmp_path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match=words):
        read_state(path)


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -30])
def test_damaged_files_are_named(size, state, tmp_path) -> None:
    path = tmp_path / "model.pt"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"model\.pt: ") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_text_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_state(tmp_path / "model.pt")
    text = tmp_path / "text.pt"
    text.write_text("hello, this is no model")
    with pytest.raises(InputError, match=r"not a weights file|running code"):
        read_state(text)
