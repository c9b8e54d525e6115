"""The pure parts of lite_cost.py and frontier.py."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


lite_cost, frontier = load("lite_cost"), load("frontier")


def by_hand(width: int, stride: int) -> float:
    """Multiply-adds per cell of the grid of a network of depth 2, all of one width."""
    square = width**2
    # Levels 0, 1, 2: down, pool, halve, up; an input and an output of the U-Net.
    pools = (4 * 1 + 4 * 4 / 4) * square / 4
    level1 = (18 + 36 + 72 + 36) * square / 4 + 2 * square / 4
    level2 = (72 + 144) * square / 16 + 8 * square / 16
    common = 9 * square + (18 + 9) * square + square + pools + level1 + level2
    first = 9 * width if stride == 1 else (2 * stride) ** 2 * width + 9 * square
    heads = 4 * 9 * square + width * 10 * stride**2
    return 2 * common + first + 27 * square + heads


@pytest.mark.parametrize(("width", "stride"), [(48, 1), (32, 2), (8, 4)])
def test_multiply_adds_are_those_by_hand(width: int, stride: int) -> None:
    shape = lite_cost.Architecture(features=width, stem_stride=stride)
    cells = (32 // stride) ** 2
    expected = cells * by_hand(width, stride)
    assert lite_cost.multiply_adds(shape, 32) == expected
    # Sizes are padded as the graph pads them.
    assert lite_cost.multiply_adds(shape, 31 if stride == 4 else 29) == expected


def test_every_row_is_an_architecture() -> None:
    for name in lite_cost.ROWS:
        assert lite_cost.card_of(name).architecture.logit_clamp == 12.0


ROW = frontier.Row(
    *("full", 1.0, 0.8, (0.7, 0.9), 20.0, (19.0, 22.0), 40.0, (38.0, 41.0)),
    *(1.0, 0.95, 0.02, -0.05),
)
COSTS = [
    {"network": n, "backend": b, "times_as_fast": t, "ms_per_frame": 1 / t}
    for n, b, t in (("full", "a", 10.0), ("lite.onnx", "a", 30), ("lite.onnx", "b", 40))
]


@pytest.mark.parametrize("three_dimensional", [True, False])
def test_table_and_figure_show_the_change_and_the_fastest_backend(
    three_dimensional: bool, tmp_path: Path
) -> None:
    full = ROW
    if not three_dimensional:
        full = replace(ROW, rmse_axial_nm=None, rmse_axial_nm_95=None, sigma_z=None)
    lite = replace(full, model="lite.onnx", jaccard=0.79, rmse_lateral_nm=21.0)
    text = frontier.table([full, lite], COSTS)
    last = text.splitlines()[-1]
    assert last.startswith("| lite | 40.0 (b) | 0.03 | 1 | 79.0 (-1.0) | 21.0 (+5.0 %)")
    assert ("40.0 (+0.0 %)" in last) == three_dimensional
    drawn = frontier.figure([full, lite], COSTS)
    assert len(drawn.axes) == (3 if three_dimensional else 2)
    assert list(drawn.axes[0].lines[0].get_xdata()) == [10.0, 40.0]
    drawn.savefig(tmp_path / "figure.png")
    # Without costs the models stand side by side.
    plain = frontier.figure([full, lite], [])
    assert list(plain.axes[0].lines[0].get_xdata()) == [0, 1]
    assert "| lite | - | - | 1 |" in frontier.table([full, lite], [])


def test_entry_of_an_evaluation_becomes_a_row() -> None:
    found = {
        "jaccard": 0.5,
        "rmse_lateral_nm": 30.0,
        "rmse_axial_nm": 60.0,
        "intervals_95": dict.fromkeys(
            ("jaccard", "rmse_lateral_nm", "rmse_axial_nm"), (0.4, 0.6)
        ),
        "calibration": {
            "z_scores": {"x": {"robust_sd": 1.1}, "z": {"robust_sd": 0.9}},
            "scores": {"ece": 0.03},
        },
        "density": {"bias": 0.01},
    }
    row = frontier.row_of("m", 2.0, json.loads(json.dumps(found)))
    assert (row.jaccard, row.rmse_axial_nm, row.sigma_z) == (0.5, 60.0, 0.9)
    del found["calibration"]["z_scores"]["z"]  # type: ignore[index]
    flat = frontier.row_of("m", 2.0, found)
    assert (flat.rmse_axial_nm, flat.sigma_z) == (None, None)
