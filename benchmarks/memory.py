"""Peak memory of a live run that the computer cannot keep up with.

`blinkloop replay` of a movie of large frames (20 of them, 0.5 emitters per um^2, as
`evaluate` simulates them) again and again at 100 frames/s, in a process of its own and
without options. Peak memory is the child's, to the end of the run, as the system counts
it (ru_maxrss; Linux begins with what the parent has, so the movie is made elsewhere).

    python benchmarks/memory.py                      # 512 x 512 px, 60 times
    python benchmarks/memory.py --backend openvino   # not what `auto` takes
    python benchmarks/memory.py --dry                # does it run? seconds
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FRAMES = 20


def make_movie(path: Path, model: str, height: int, width: int) -> None:
    """A TIFF of `FRAMES` frames that the model fits."""
    import numpy as np
    import tifffile

    from blinkloop.cli._bundled import bundled_models
    from blinkloop.evaluation import EvaluationSettings, simulate_movie
    from blinkloop.runtime import read_model

    card = read_model(bundled_models()[model]).card
    settings = EvaluationSettings(frames=FRAMES, height_px=height, width_px=width)
    frames = simulate_movie(card, settings).frames_adu[0]
    tifffile.imwrite(path, frames.astype(np.uint16))


def replay(movie: Path, out: Path, model: str, repeat: int, *words: str) -> Any:
    """One run; its record and the peak memory in MB (10^6 bytes)."""
    verb = [sys.executable, "-m", "blinkloop.cli", "replay", str(movie), "-m", model]
    options = ["--fps", "100", "--repeat", str(repeat), "-o", str(out), "--json"]
    process = subprocess.Popen(
        [*verb, *options, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        raise SystemExit(f"replay ended with exit code {code}")
    # Linux counts kB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(said), usage.ru_maxrss * unit / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="astigmatic-lite", help="a bundled one")
    parser.add_argument("--size", default="512x512", help="height x width in px")
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--backend", help="default: what `auto` takes")
    parser.add_argument("--dry", action="store_true", help="small frames, played once")
    given = parser.parse_args()
    height, width = (int(part) for part in given.size.split("x"))
    repeat = given.repeat
    if given.dry:
        height, width, repeat = 64, 48, 1
    words = ["--backend", given.backend] if given.backend else []
    with tempfile.TemporaryDirectory() as folder:
        movie = Path(folder, "movie.tif")
        maker = get_context("spawn").Process(
            target=make_movie, args=(movie, given.model, height, width)
        )
        maker.start()
        maker.join()
        record, peak = replay(movie, Path(folder, "run"), given.model, repeat, *words)
    print(
        f"{given.model}, {record['backend']}, {height}x{width} px, "
        f"{record['frames_seen']} frames at 100 frames/s, "
        f"{record['frames_localized']} localized: peak {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
