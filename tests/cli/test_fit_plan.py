"""How `fit` cuts frames that are too large for the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._fit_plan import FitPlan, Wanted
from blinkloop.integrations.movies import open_movie
from blinkloop.runtime import create_backend, make_camera_maps, read_model


@pytest.mark.parametrize(("memory_mb", "tiles"), [(None, 25), (20_000, 1)])
def test_tiles_hold_one_emitter_per_um2(
    tmp_path: Path, memory_mb: float | None, tiles: int
) -> None:
    """A table has 2048 rows: 452 x 452 px of 100 nm. Memory would allow 700 x 700."""
    path = tmp_path / "movie.npy"
    np.lib.format.open_memmap(path, "w+", np.uint16, (1, 2048, 2048)).flush()
    model = read_model(bundled_models()["astigmatic-lite"])
    maps = make_camera_maps(model.card.camera)
    with open_movie(path) as movie:
        wanted = Wanted((None, None), None, None, memory_mb=memory_mb)
        plan = FitPlan(movie, wanted)
        backend = create_backend("onnxruntime-cpu", model, maps, threads=1)
        plan.localizer(model, backend, maps).close()
    assert len(plan.tiles.tiles) == tiles
    if tiles > 1:
        areas = {t.window.width * t.window.height for t in plan.tiles.tiles}
        assert len(areas) == 1
        assert max(areas) * 0.1**2 <= model.card.detection.max_detections == 2048
        assert plan.note is not None
        assert "25 tiles" in plan.note
