"""Tiny networks with random weights, exported once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.records import Frame, Roi
from blinkloop.schema import (
    Architecture,
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
    Scaling,
    TrainingRanges,
)


def make_card(architecture: Architecture) -> ModelCard:
    """A card whose numbers suit `make_movie`."""
    return ModelCard(
        name="tiny random network",
        architecture=architecture,
        pixel_size_nm=100,
        z_range_nm=(-500, 500),
        psf=GaussianPsfSettings(),
        camera=CameraSettings(),
        scaling=Scaling(
            input_offset_photons=20,
            input_scale_photons=60,
            photons_max=5000,
            z_max_nm=600,
            background_max=50,
        ),
        training_ranges=TrainingRanges(
            photons=(500, 5000),
            background_photons=(5, 40),
            density_per_um2=(0.1, 2),
            on_time_frames=(1, 5),
        ),
    )


TINY = {
    "full": Architecture(features=4, depth=2),
    "half": Architecture(features=4, depth=1, stem_stride=2),
}


@pytest.fixture(scope="session")
def tiny_networks() -> dict[str, Any]:
    """Random networks at full and at half resolution, with a fair number of detections.

    The last layer of every head is scaled to outputs of moderate spread: as
    initialised nothing is detected and most values sit at the ends of their ranges,
    where no comparison can fail.
    """
    torch = pytest.importorskip("torch", reason="making a network needs 'train'")
    from blinkloop.training.network import TwoStageNetwork

    networks = {}
    for name, architecture in TINY.items():
        torch.manual_seed(3)
        network = TwoStageNetwork(architecture).eval()
        frames = torch.randn(6, 3, 24, 24).exp() - 1
        heads = (
            (network.head_p, 1.5, -3.5),
            (network.head_position, 0.7, 0.0),
            (network.head_sigma, 0.7, 0.0),
            (network.head_background, 0.7, 0.0),
        )
        with torch.no_grad():
            raws = network.heads_of(frames)
            for (head, spread, centre), raw in zip(heads, raws, strict=True):
                scale = spread / raw.std()
                shift = centre - scale * (raw.mean() - head.out.bias.mean())
                head.out.weight.mul_(scale)
                head.out.bias.fill_(float(shift))
        networks[name] = network
    return networks


@pytest.fixture(scope="session")
def tiny_models(
    tiny_networks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ModelFile]:
    """Model files of the tiny networks."""
    pytest.importorskip("onnx", reason="making a model file needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="making a model file needs 'export'")
    from blinkloop.export import export_onnx

    folder = tmp_path_factory.mktemp("models")
    models = {}
    for name, network in tiny_networks.items():
        path = folder / f"{name}.onnx"
        export_onnx(network, make_card(network.architecture), path)
        models[name] = read_model(path)
    return models


@pytest.fixture(scope="session", params=list(TINY))
def tiny_model(
    request: pytest.FixtureRequest, tiny_models: dict[str, ModelFile]
) -> ModelFile:
    """Each of the tiny networks in turn."""
    return tiny_models[request.param]


MovieMaker = Callable[..., list[Frame]]


@pytest.fixture(scope="session")
def make_movie() -> MovieMaker:
    """Maker of odd-sized, non-square movies with bright spots that differ by frame."""

    def make(
        indices: list[int],
        roi: Roi | None = None,
        *,
        dtype: str = "uint16",
        seed: int = 0,
    ) -> list[Frame]:
        region = roi or Roi(x=30, y=70, width=21, height=13)
        rng = np.random.default_rng(seed)
        frames = []
        for index in indices:
            pixels = rng.poisson(40, (region.height, region.width)) + 100.0
            spots = rng.integers((region.height, region.width), size=(4, 2))
            pixels[spots[:, 0], spots[:, 1]] += rng.uniform(200, 2000, 4).round()
            pixels = pixels.clip(0, 255 if dtype == "uint8" else 65535).astype(dtype)
            frames.append(Frame(index, index * 0.02, pixels, region))
        return frames

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writer of some bytes to a file that is named like a model."""

    def save(content: bytes) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return path

    return save
