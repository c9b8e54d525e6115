from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.cli._output import plain, print_json, print_table
from blinkloop.schema import CameraSettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param(math.nan, None, id="nan"),
        pytest.param(-math.inf, None, id="inf"),
        pytest.param(np.float32(0.5), 0.5, id="numpy float"),
        pytest.param(np.float32("nan"), None, id="numpy nan"),
        pytest.param(np.int64(3), 3, id="numpy int"),
        pytest.param(np.bool_(True), True, id="numpy bool"),
        pytest.param(np.array([[1.0, np.nan]]), [[1.0, None]], id="array"),
        pytest.param((1, 2), [1, 2], id="tuple"),
        pytest.param({"a": {1: math.nan}}, {"a": {"1": None}}, id="nested"),
        pytest.param(Path("a") / "b", str(Path("a") / "b"), id="path"),
    ],
)
def test_plain(value: Any, wanted: Any) -> None:
    assert plain(value) == wanted


def test_plain_reads_models() -> None:
    assert plain(CameraSettings(em_gain=5))["em_gain"] == 5


@pytest.mark.parametrize("value", [b"x", object(), 1j])
def test_plain_refuses_what_json_has_not(value: object) -> None:
    with pytest.raises(TypeError, match="cannot write"):
        plain(value)


@settings(max_examples=40)
@given(JSON)
def test_any_value_is_exactly_one_line_of_strict_json(value: Any) -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        print_json(value)
    (line,) = stream.getvalue().splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(line, parse_constant=refuse) == plain(value)


ROWS = [("a [b]", 1.23456, None), ("c", math.nan, True)]


def test_plain_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ("name", "x, nm", "ok"), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "Title:",
        "  name   x, nm  ok",
        "  a [b]  1.235  -",
        "  c      -      yes",
    ]


def test_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ("name",), [])
    assert capsys.readouterr().out == "Title:\n  name\n"


def test_terminal_gets_a_drawn_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    print_table("Title", ("name", "x", "ok"), ROWS)
    text = stream.getvalue()
    assert "a [b]" in text
    assert "1.235" in text
    assert "━" in text or "─" in text
