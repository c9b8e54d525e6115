"""How `fit` cuts frames that are too large for the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._fit_plan import FitPlan, Wanted
from blinkloop.integrations.movies import open_movie
from blinkloop.runtime import make_camera_maps, read_model


class DeviceDouble:
    """A backend of that name, which is asked for nothing else."""

    def __init__(self, name: str) -> None:
        self.name = name

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("backend", "memory_mb", "tiles", "why"),
    [
        # 700 x 700 px for the memory; the table is as long as it has to be.
        ("onnxruntime-cpu", None, 9, "384 MB"),
        ("openvino:bf16", None, 9, "384 MB"),
        ("onnxruntime-cpu", 20_000, 1, ""),
        # 2048 rows: 452 x 452 px of 100 nm.
        ("onnxruntime-cuda", None, 25, "1 detection per um2"),
        ("tensorrt", 20_000, 25, "1 detection per um2"),
        ("tensorrt", 64, 64, "64 MB"),
    ],
)
def test_tiles_suit_memory_and_table(
    tmp_path: Path, backend: str, memory_mb: float | None, tiles: int, why: str
) -> None:
    path = tmp_path / "movie.npy"
    np.lib.format.open_memmap(path, "w+", np.uint16, (1, 2048, 2048)).flush()
    model = read_model(bundled_models()["astigmatic-lite"])
    maps = make_camera_maps(model.card.camera)
    with open_movie(path) as movie:
        wanted = Wanted((None, None), None, None, memory_mb=memory_mb)
        plan = FitPlan(movie, wanted)
        double: Any = DeviceDouble(backend)
        plan.localizer(model, double, maps).close()
    assert len(plan.tiles.tiles) == tiles
    assert (plan.note is not None) == (tiles > 1)
    if plan.note is not None:
        areas = {t.window.width * t.window.height for t in plan.tiles.tiles}
        assert len(areas) == 1
        assert f"{tiles} tiles" in plan.note
        assert why in plan.note
        if backend == "onnxruntime-cuda":
            assert max(areas) * 0.1**2 <= model.card.detection.max_detections == 2048
