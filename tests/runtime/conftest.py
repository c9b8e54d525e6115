"""Tiny networks with random weights, and movies for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.records import Frame, Roi

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = ("full", "half")


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, ModelFile]:
    """Random networks, made by tests/golden/make_tiny_models.py."""
    return {name: read_model(GOLDEN / f"tiny_{name}.onnx") for name in TINY}


@pytest.fixture(scope="session", params=TINY)
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
