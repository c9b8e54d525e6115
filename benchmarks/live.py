"""A live run at a steady camera rate: dropped frames, latency, memory.

The whole of `blinkloop demo` in a process of its own: Micro-Manager core, virtual
camera and laser, network, feedback, live store. Latency counts from the hand-over of a
frame by the core to its result. The virtual camera draws on the same processor.

    python benchmarks/live.py --size 128x128 --fps 100 --seconds 60
    python benchmarks/live.py --model astigmatic --size 64x64 --fps 25 --seconds 5
    python benchmarks/live.py --model astigmatic-lite --size 512x512 --seconds 20
        --roi whole center:256x256 center:128x128
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from typing import Any

_SHOWN = ("frames_seen", "frames_localized", "frames_skipped", "frames_lost")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of one live run and what it used of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "blinkloop.cli", "demo", "--json"),
            *("--seconds", str(arguments.seconds)),
            *("--exposure-ms", str(1000 / arguments.fps)),
            *("--size", arguments.size, "--backend", arguments.backend),
            *("--seed", str(arguments.seed), "-o", f"{folder}/live"),
        ]
        if arguments.roi and arguments.roi != ["whole"]:
            command += ["--roi", arguments.roi[0]]
        if arguments.model:
            command += ["--model", arguments.model]
        if arguments.threads:
            command += ["--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    record: dict[str, Any] = json.loads(done.stdout)
    shown = ("model", "backend", "threads", "latency_ms", "density_true_per_um2")
    shown = (*shown, "jaccard")
    return {
        **{key: record[key] for key in (*_SHOWN, *shown)},
        "fps": arguments.fps,
        "size": arguments.size,
        "roi": record.get("analysed_roi_px", "whole"),
        "processor_s_per_frame": round(
            (used.ru_utime + used.ru_stime) / max(record["frames_seen"], 1), 5
        ),
        "peak_memory_mb": round(used.ru_maxrss / 1024, 1),
        "load_average": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def in_turn(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The records of several parts of the same camera, a process for each."""
    given = sys.argv[1:]
    first = given.index("--roi")
    others = given[:first] + given[first + 1 + len(arguments.roi) :]
    records = []
    for part in arguments.roi:
        command = [sys.executable, __file__, *others, "--json", "--roi", part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        records.append(json.loads(done.stdout))
    return records


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="bundled name or path; default: the demo's")
    parser.add_argument("--size", default="128x128", help="height x width, px")
    parser.add_argument("--fps", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--roi",
        nargs="*",
        default=[],
        help="part that is analysed, as of blinkloop demo, or whole; several: in turn",
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    several = len(arguments.roi) > 1
    records = in_turn(arguments) if several else [measure(arguments)]
    if arguments.json:
        print(json.dumps(records if several else records[0], indent=1))
        return
    for record in records:
        for name, value in record.items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
