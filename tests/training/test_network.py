"""The network: official golden output, size, initial state, shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blinkloop.errors import InputError
from blinkloop.schema import Architecture
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.official import from_official

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_net_f6.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def test_golden_six_feature_network(golden: dict[str, np.ndarray]) -> None:
    state = {k[3:]: torch.from_numpy(v) for k, v in golden.items() if k[:3] == "sd/"}
    architecture, ours = from_official(state)
    assert (architecture.features, architecture.depth) == (6, 2)
    network = TwoStageNetwork(architecture)
    network.load_state_dict(ours)
    # More threads sum in another order, and the random weights amplify rounding: the
    # golden numbers themselves are 3e-5 from the same network in float64.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        maps = network(torch.from_numpy(golden["x"])).numpy()
    torch.set_num_threads(threads)
    # Official x is our y: channels 2 and 3, and 6 and 7, have changed places.
    expected = golden["y"][:, [0, 1, 3, 2, 4, 5, 7, 6, 8, 9]]
    np.testing.assert_allclose(maps, expected, atol=1e-5, rtol=0)


def test_unknown_official_parameter_is_named() -> None:
    with pytest.raises(InputError, match="no_such_layer"):
        from_official({"no_such_layer.weight": torch.zeros(1)})


def test_full_network_has_the_published_number_of_parameters() -> None:
    network = TwoStageNetwork(Architecture(features=48, depth=2))
    # The official count holds one constant more, its sigma floor.
    assert sum(p.numel() for p in network.parameters()) == 2_199_419 - 1


SHAPES: dict[str, dict[str, Any]] = {
    "shallow": {"features": 4, "depth": 1},
    "official": {"features": 6},
    "half-resolution": {"features": 4, "stem_stride": 2},
    "deep-half-resolution": {"features": 5, "depth": 3, "stem_stride": 2},
    "quarter-resolution": {"features": 4, "depth": 1, "stem_stride": 4},
    "few-kept": {"features": 4, "kept_features": 2, "activation": "relu"},
    "wide-context": {"features": 3, "context_features": 5, "depth": 1},
    "deep-context": {"features": 3, "depth": 1, "context_depth": 2, "stem_stride": 2},
    "flat": {"features": 4, "depth": 0, "convolutions": 4, "stem_stride": 2},
    "flat-frames": {"features": 3, "depth": 0, "context_depth": 1, "convolutions": 1},
    "flat-context": {"features": 3, "depth": 1, "context_depth": 0},
    "deep-frames": {"features": 3, "depth": 2, "context_depth": 1},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_kept_features_give_the_three_frame_pass(shape: dict[str, Any]) -> None:
    architecture = Architecture(**shape)
    torch.manual_seed(1)
    network = TwoStageNetwork(architecture).eval()
    m = architecture.size_multiple
    frames = torch.randn(5, 1, 2 * m, 3 * m)
    with torch.inference_mode():
        kept = network.analyse(frames)
        assert kept.shape[1] == architecture.kept_channels
        assert tuple(kept.shape[2:]) == architecture.feature_size(2 * m, 3 * m)
        streamed = network.combine(torch.cat([kept[:-2], kept[1:-1], kept[2:]], dim=1))
        triples = torch.cat([frames[:-2], frames[1:-1], frames[2:]], dim=1)
        np.testing.assert_allclose(streamed, network(triples), atol=1e-6)
        assert streamed.shape == (3, 10, 2 * m, 3 * m)


def test_starts_with_hardly_any_detection_and_clamps_p() -> None:
    torch.manual_seed(0)
    network = TwoStageNetwork(Architecture(features=6, logit_clamp=4.0))
    with torch.inference_mode():
        maps = network(torch.randn(1, 3, 16, 20))
        p = network.activate(
            torch.tensor([[[[-99.0, 99.0]]]]),
            *(torch.zeros(1, k, 1, 2) for k in (4, 4, 1)),
        )[0, 0, 0]
    assert float(maps[:, 0].median()) < 0.2
    np.testing.assert_allclose(p, 1 / (1 + np.exp([4.0, -4.0])), rtol=1e-6)


def test_relu_takes_the_place_of_every_elu() -> None:
    network = TwoStageNetwork(Architecture(features=2, stem_stride=2))
    lite = TwoStageNetwork(Architecture(features=2, stem_stride=2, activation="relu"))
    elu = [type(m) for m in network.modules() if isinstance(m, torch.nn.ELU)]
    relu = [type(m) for m in lite.modules() if isinstance(m, torch.nn.ReLU)]
    assert len(elu) == len(relu) == 1 + 2 * 10 + 4  # stem, two U-Nets, heads
    assert not any(isinstance(m, torch.nn.ELU) for m in lite.modules())
