"""The store writes a column at a time, each when a frame has just been dealt with."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from busy import PATIENCE_S
from pipeline_doubles import assert_rows_equal, make_result

from blinkloop.runtime.sinks import LiveStore, layout, read_live_store
from blinkloop.runtime.sinks.writer import SinkWriter
from blinkloop.schema import LOCALIZATION_DTYPE

pytest.importorskip("zarr", reason="the extra io is not installed")


def test_a_run_says_how_to_rest_and_that_it_ends(tmp_path: Path) -> None:
    """Until the next results come: then the laser is set."""
    failed: list[object] = []
    store = LiveStore(tmp_path / "a.zarr", pause_s=60.0, flush_s=0.0)
    hasty = LiveStore(tmp_path / "b.zarr", flush_s=0.0)  # does not rest at all
    writer = SinkWriter([store, hasty], 1000, lambda *why: failed.append(why))
    writer.open({})
    columns = len(LOCALIZATION_DTYPE) + len(layout.FRAME_DTYPE)
    began = time.perf_counter()
    for index in range(3 * columns):
        writer.put([make_result(index)])
        time.sleep(0.001)
    writer.finish({})
    assert writer.wait(PATIENCE_S)
    assert time.perf_counter() - began < PATIENCE_S
    assert not failed
    expected = [make_result(n).localizations for n in range(3 * columns)]
    for path in (tmp_path / "a.zarr", tmp_path / "b.zarr"):
        assert_rows_equal(read_live_store(path).data, np.concatenate(expected))


@pytest.mark.parametrize(
    ("waiting", "ends", "rests"),
    [(0, False, True), (3, False, False), (0, True, False)],
    ids=["idle", "behind", "ending"],
)
def test_the_writer_rests_only_without_haste(
    waiting: int, ends: bool, rests: bool
) -> None:
    writer = SinkWriter([], 6, lambda *why: None)
    if ends:
        writer.finish({})
    for index in range(waiting):
        writer.put([make_result(index)])
    took_s = []
    for _ in range(20):
        began = time.perf_counter()
        writer._rest()
        took_s.append(time.perf_counter() - began)
    # The quickest: a busy machine makes anything slow, but nothing quick.
    assert (min(took_s) > 0.04) is rests
