"""A movie of 8 GiB through `fit`: peak memory and rates.

The movie is a sparse NumPy file of 1024 frames of 2048 x 2048 px uint16,
zeros but for a few real frames, so it takes hardly any room on the disk. A CPU cannot
localize 4 Gpx in reasonable time, so `--roi` takes a region of every frame (all frames
are read from) and `--frames` a few whole frames, which are analysed in tiles.

Usage: python benchmarks/big_movie.py [--model MODEL] [--folder FOLDER] [--json]
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

import numpy as np

FRAMES, HEIGHT, WIDTH = 1024, 2048, 2048
CASES = {
    "region of every frame": ("--roi", "960,960,64,48", "--backend", "onnxruntime-cpu"),
    "whole frames in tiles": ("--frames", "500:502", "--backend", "onnxruntime-cpu"),
}


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


def fit(
    movie: Path, out: Path, model: str, words: tuple[str, ...]
) -> dict[str, object]:
    """One fit in a process of its own; its record, and what the system counted."""
    command = [sys.executable, "-m", "blinkloop.cli", "fit", str(movie), "-m", model]
    command += ["-o", str(out), "--json", "--overwrite", "--threads", "1", *words]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    record = json.loads(said)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "frames": record["frames"],
        "localizations": record["localizations"],
        "tiles": record["tiles"],
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "frames_per_second": round(record["frames_per_second"], 2),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    """Make the movie, fit it in each way, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="astigmatic-small")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as folder:
        movie = Path(folder) / "big.npy"
        make_movie(movie)
        found = {"movie_gib": round(movie.stat().st_size / 2**30, 2)}
        for name in wanted.case or CASES:
            result = fit(movie, Path(folder) / "o.hdf5", wanted.model, CASES[name])
            found[name] = result  # type: ignore[assignment]
    if wanted.json:
        print(json.dumps(found))
        return
    print(f"movie: {found.pop('movie_gib')} GiB, model {wanted.model}")
    for name, result in found.items():
        print(f"{name}: {result}")


if __name__ == "__main__":
    main()
