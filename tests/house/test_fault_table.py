"""Every row of docs/faults.md names tests that exist, and no fault is missing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
WANTED = {
    *("camera stall", "overflow", "camera disappears", "ROI changed mid-run"),
    *("exposure changed mid-run", "laser refuses", "laser reads back something else"),
    *("property does not exist", "NaN estimate", "empty frames", "saturated frames"),
    *("slow consumer", "backend crash", "disk full", "store path gone"),
    *("two runs on one camera", "Ctrl-C", "SIGTERM", "kill -9", "clock jump"),
}


def table() -> dict[str, list[str]]:
    """Fault -> its tests."""
    rows = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and "::" in cells[3]:
            rows[cells[0]] = [name.strip() for name in cells[3].split(",")]
    return rows


def test_no_fault_is_missing() -> None:
    assert WANTED - table().keys() == set()


def test_every_row_has_a_test() -> None:
    text = PAGE.read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) - 1 == len(table())  # the first is the heading


@pytest.mark.parametrize("fault", sorted(table()))
def test_its_tests_exist(fault: str) -> None:
    for name in table()[fault]:
        file, _, test = name.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        functions = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef)
        }
        assert test.startswith("test_")
        assert test in functions, name
