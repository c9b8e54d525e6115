"""Tiny networks, exported and built once for all tests of this folder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from built_engine import FULL, SPEC, Built
from tiny_networks import LITE, make_card, make_random_network

from blinkloop.export import export_onnx
from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.network import TwoStageNetwork


@dataclass(frozen=True)
class Exported:
    """A model file and the network it was made from."""

    path: Path
    network: TwoStageNetwork
    card: ModelCard


ARCHITECTURES = {
    "depth 2": Architecture(features=4, depth=2),
    "lite": LITE.model_copy(update={"context_depth": 2}),
}


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Exports each once; a fixture with parameters would begin again at each turn."""

    @functools.cache
    def export(name: str) -> Exported:
        architecture = ARCHITECTURES[name]
        network = make_random_network(architecture)
        path = tmp_path_factory.mktemp("export") / "model.onnx"
        card = export_onnx(network, make_card(architecture), path)
        return Exported(path, network, card)

    return export


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def exported(
    request: pytest.FixtureRequest, exports: Callable[[str], Exported]
) -> Exported:
    """A network of either architecture and its model file."""
    return exports(request.param)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An engine that TensorRT for RTX built, which needs no GPU for that."""
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    from blinkloop.export.engine import build_engine

    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLINKLOOP_CACHE", str(folder / "cache"))
        header = build_engine(FULL, folder / "tiny.rtx", spec=SPEC)
    return Built(folder / "tiny.rtx", header, folder / "cache")
