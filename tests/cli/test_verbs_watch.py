"""`run --watch`: a movie that another program writes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.integrations.formats import read_table
from blinkloop.integrations.movies import open_movie

tifffile = pytest.importorskip("tifffile", reason="needs the extra `io`")


def test_run_follows_a_movie_and_gives_what_fit_gives(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    with open_movie(movie) as opened:
        frames = opened.read(0, opened.n_frames)
    growing, marker = tmp_path / "growing.tif", tmp_path / "done"

    def write() -> None:
        time.sleep(0.3)
        with tifffile.TiffWriter(growing) as file:
            for frame in frames:
                file.write(frame, metadata=None)
                time.sleep(0.02)
        marker.touch()

    writer = threading.Thread(target=write)
    writer.start()
    words = ("--watch", growing, "--watch-marker", marker, "--watch-timeout", 240)
    words = (*words, "-o", tmp_path / "out", "--json")
    record = good("run", "-m", model, *words).json
    writer.join()
    assert record["frames_seen"] == record["frames_localized"] == len(frames)
    assert record["frames_lost"] == record["frames_skipped"] == 0
    good("fit", movie, "-m", model, "-o", tmp_path / "fit.zarr")
    live = read_table(tmp_path / "out" / "localizations.zarr").data
    assert_same_table(live, read_table(tmp_path / "fit.zarr").data)
    assert np.max(live["frame"], initial=-1) < len(frames)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--watch", "x.tif", "--laser", "L.Power"), "no camera or laser of ours"),
        (("--watch", "x.tif", "--set", "A.B=1", "--device", "C"), "--device, --set"),
        (("--watch", "x.tif", "--mode", "control"), "needs a laser"),
        (("--watch-marker", "done"), "--watch-marker needs --watch"),
    ],
)
def test_run_refuses(verb: Verb, model: Path, words, match) -> None:
    said = verb("run", "-m", model, *words)
    assert match in said.error
    assert said.code == 2
