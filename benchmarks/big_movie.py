"""A movie of 8 GiB through `fit`: peak memory and rates.

The movie is a sparse NumPy file of 1024 frames of 2048 x 2048 px uint16,
zeros but for a few real frames, so it takes hardly any room on the disk. Cases: a
region of every frame, a few whole frames, and all: every whole frame, killed (-9) when
half is done and started again, with the rows around the middle compared with those of a
fit that nobody killed (4 Gpx: half an hour of two quiet cores with
`astigmatic-lite`, less with a `--region`).

Usage: python benchmarks/big_movie.py [--model MODEL] [--folder FOLDER] [--json]
       python benchmarks/big_movie.py --model astigmatic-lite --case all \
           --region 768,768,512,512
Peak memory is the child's, as the system counts it (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import BlinkloopError
from blinkloop.integrations.formats import read_table
from blinkloop.runtime.sinks import LiveStoreReader

FRAMES, HEIGHT, WIDTH = 1024, 2048, 2048
CASES = {
    "region of every frame": ("--roi", "960,960,64,48", "--backend", "onnxruntime-cpu"),
    "whole frames in tiles": ("--frames", "500:502", "--backend", "onnxruntime-cpu"),
}
ALL = "all"
MIDDLE = (448, 576)
"""Frames of the fit that nobody kills; two of them hold spots."""
_LOOK_S = 0.5


def make_movie(path: Path) -> None:
    """8 GiB of zeros with 16 frames of spots."""
    shape = (FRAMES, HEIGHT, WIDTH)
    movie = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
    rng = np.random.default_rng(0)
    for index in range(0, FRAMES, FRAMES // 16):
        frame = rng.poisson(20, (HEIGHT, WIDTH)).astype(np.uint16) + 100
        frame[rng.integers(0, HEIGHT, 4000), rng.integers(0, WIDTH, 4000)] += 1500
        movie[index] = frame
    movie.flush()


def command(movie: Path, out: Path, model: str, *words: str) -> list[str]:
    """`blinkloop fit` in a process of its own."""
    verb = [sys.executable, "-m", "blinkloop.cli", "fit", str(movie), "-m", model]
    return [*verb, "-o", str(out), "--json", *words]


def fit(
    movie: Path, out: Path, model: str, words: tuple[str, ...]
) -> dict[str, object]:
    """One fit; its record, and what the system counted."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command(movie, out, model, *words), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    record = json.loads(said)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "frames": record["frames"],
        "frames_resumed": record["frames_resumed"],
        "localizations": record["localizations"],
        "tiles": record["tiles"],
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "frames_per_second": round(record["frames_per_second"], 2),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
    }


def half_and_killed(movie: Path, out: Path, model: str, words: tuple[str, ...]) -> int:
    """Begin a fit and kill it when half of the frames are kept; its peak memory, MB."""
    store = Path(f"{out}.live.zarr")
    process = subprocess.Popen(
        command(movie, out, model, *words), stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        time.sleep(_LOOK_S)
        try:
            kept = len(LiveStoreReader(store).frames())
        except (BlinkloopError, OSError):  # not there yet
            continue
        if kept >= FRAMES // 2:
            process.kill()
            break
    _, _, usage = os.wait4(process.pid, 0)
    return round(usage.ru_maxrss / 1024)


def killed_and_again(
    movie: Path, folder: Path, model: str, threads: int, region: str
) -> Any:
    """All frames, in two fits; beside them the middle in one."""
    words = ("--backend", "onnxruntime-cpu", "--threads", str(threads))
    words += ("--roi", region) if region else ()
    out, whole = folder / "all.hdf5", folder / "middle.hdf5"
    first_mb = half_and_killed(movie, out, model, words)
    again = fit(movie, out, model, words)
    frames = ("--frames", "{}:{}".format(*MIDDLE))
    fit(movie, whole, model, (*words, *frames))
    rows, expected = (read_table(path).data for path in (out, whole))
    rows = rows[(rows["frame"] >= MIDDLE[0]) & (rows["frame"] < MIDDLE[1])]
    same = len(rows) == len(expected) and all(
        np.allclose(rows[name], expected[name], rtol=1e-4, atol=1e-3, equal_nan=True)
        for name in ("frame", "x_px", "y_px", "photons")
    )
    middle = {"rows_in_the_middle": len(expected), "same_as_in_one_fit": same}
    return {**again, "peak_rss_mb_until_killed": first_mb, **middle}


def main() -> None:
    """Make the movie, fit it in each way, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="astigmatic-small")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--case", choices=[*CASES, ALL], action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--region", default="", help="X,Y,W,H of case all; default: all"
    )
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        movie = Path(folder) / "big.npy"
        make_movie(movie)
        found = {"movie_gib": round(movie.stat().st_size / 2**30, 2)}
        for name in wanted.case or CASES:
            if name == ALL:
                found[name] = killed_and_again(
                    movie, Path(folder), wanted.model, wanted.threads, wanted.region
                )
                continue
            words = (*CASES[name], "--threads", str(wanted.threads), "--overwrite")
            result = fit(movie, Path(folder) / "o.hdf5", wanted.model, words)
            found[name] = result  # type: ignore[assignment]
    if wanted.json:
        print(json.dumps(found))
        return
    print(f"movie: {found.pop('movie_gib')} GiB, model {wanted.model}")
    for name, result in found.items():
        print(f"{name}: {result}")


if __name__ == "__main__":
    main()
