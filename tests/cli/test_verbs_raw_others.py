"""`--raw` and `--policy` of `replay` and `demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.runtime import PipelineSettings, StreamLocalizer
from blinkloop.runtime.raw import RawStoreReader
from blinkloop.runtime.sinks import LiveStoreReader

pytest.importorskip("yaozarrs", reason="needs the extra `raw`")

WORDS = ("--fps", 60, "--threshold", 0.6, "--pixel-size-nm", 100)


def test_replay_keeps_the_frames_it_played(
    good: Verb,
    model: Path,
    movie: Path,
    frames: npt.NDArray[np.uint16],
    tmp_path: Path,
) -> None:
    raw, out = tmp_path / "kept.ome.zarr", tmp_path / "out"
    more = ("--repeat", 2, "--raw", raw, "-o", out, "--json")
    record = good("replay", movie, "-m", model, *WORDS, *more).json
    assert record["frames_seen"] == record["raw"]["frames"] == 24
    assert record["frames_missing"]["raw"] == 0
    assert record["files"]["raw"] == str(raw)
    kept = RawStoreReader(raw)
    assert kept.frames()["index"].tolist() == list(range(24))
    assert kept.meta["policy"] == "latest"
    assert kept.meta["settings"]["fps"] == 60
    import zarr

    pixels: Any = zarr.open_group(raw, mode="r")["0"]
    np.testing.assert_array_equal(pixels[:], np.concatenate([frames, frames]))


def test_replay_fits_every_frame(
    good: Verb,
    model: Path,
    movie: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too slow for the frame rate: skipped live, fitted afterwards, as `fit` does."""
    push = StreamLocalizer.push

    def slowly(self: StreamLocalizer, frames: Any) -> Any:
        time.sleep(0.05 * len(frames))
        return push(self, frames)

    monkeypatch.setattr(StreamLocalizer, "push", slowly)
    monkeypatch.setattr(
        "blinkloop.cli._live.camera_settings", lambda _: PipelineSettings(ring_frames=3)
    )
    out = tmp_path / "out"
    words = ("--fps", 400, "--threshold", 0.6, "--pixel-size-nm", 100)
    more = ("--repeat", 5, "--policy", "every", "-o", out, "--json")
    record = good("replay", movie, "-m", model, *words, *more).json
    assert record["frames_localized"] == record["frames_seen"] == 60
    assert record["frames_skipped"] == record["frames_lost"] == 0
    assert record["frames_caught_up"] > 5
    monkeypatch.undo()
    whole = tmp_path / "whole.zarr"
    words = ("-m", model, "--threshold", 0.6, "-o", whole)
    good("fit", out / "raw.ome.zarr", *words)
    done = LiveStoreReader(out / "localizations.zarr")
    assert_same_table(done.rows(), LiveStoreReader(whole).rows())


def test_nothing_is_overwritten(verb: Verb, model: Path, movie: Path) -> None:
    words = ("-m", model, "--raw", movie)
    for said in (verb("replay", movie, *words, *WORDS), verb("demo", *words)):
        assert said.code == 2
        assert "exists already" in said.error


def test_demo_keeps_its_frames(good: Verb, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("matplotlib", reason="needs the extra `demo`")
    out = tmp_path / "out"
    words = ("--seconds", 2, "--size", "24x32", "--exposure-ms", 20, "-o", out)
    record = good("demo", "-m", model, *words, "--policy", "every", "--json").json
    seen = record["frames_seen"]
    assert record["frames_localized"] + record["frames_lost"] == seen > 0
    kept = RawStoreReader(out / "raw.ome.zarr")
    assert len(kept.frames()) == seen - record["frames_lost"]
    # The laser's log travels with the frames.
    laser = (out / "laser.csv").read_text().splitlines()
    import zarr

    rows: Any = zarr.open_group(out / "raw.ome.zarr", mode="r")["laser"]
    assert rows["written"].shape[0] == len(laser) - 1 > 1
    assert "n_truth" in record
