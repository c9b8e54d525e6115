"""How fast the virtual microscope is, alone and beside the analysis of its frames.

*Alone*: frames per second of the simulator, one thread. *Beside*: the real
Micro-Manager core, the virtual camera in real time, and all that `blinkloop run` runs.
The camera never skips an exposure; when the computer is too slow its clock waits
(`late_s`), so it kept real time when it gave the frames of the clock.

    python benchmarks/virtual_microscope.py --size 256x256 --fps 100 --density 1
    python benchmarks/virtual_microscope.py --alone --camera emccd
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._feedback import make_loop
from blinkloop.cli._live import live_record, make_folder, run_live
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.integrations.virtual import (
    KineticsSettings,
    Simulator,
    VirtualSettings,
    load_virtual_microscope,
)
from blinkloop.runtime import PipelineSettings
from blinkloop.schema import CameraSettings

_ON_TIME_FRAMES = 3.0
_POOL_PER_UM2 = 300.0


def settings_of(options: argparse.Namespace, pixel_nm: float) -> VirtualSettings:
    """A sample that gives the wanted density at 1 mW, hardly bleaching."""
    height, width = map(int, options.size.split("x"))
    exposure_ms = 1000 / options.fps
    # Each activation touches on-time + 1 frames.
    rate_per_s = options.density * options.fps / (_ON_TIME_FRAMES + 1) / _POOL_PER_UM2
    cameras = {
        "scmos": CameraSettings(),
        "emccd": CameraSettings(kind="emccd", em_gain=100.0, e_per_adu=10.0),
    }
    return VirtualSettings(
        width_px=width,
        height_px=height,
        pixel_size_nm=pixel_nm,
        exposure_ms=exposure_ms,
        structure=options.structure,
        labelling_per_um2=_POOL_PER_UM2,
        camera=cameras[options.camera],
        kinetics=KineticsSettings(
            activation_per_mw_s=rate_per_s,
            on_time_ms=_ON_TIME_FRAMES * exposure_ms,
            bleach_fraction=0.05,
        ),
        start_power_mw=1.0,
        seed=options.seed,
    )


def alone(options: argparse.Namespace) -> dict[str, Any]:
    """The simulator by itself."""
    settings = settings_of(options, 100.0)
    simulator = Simulator(settings)
    out = np.zeros((settings.height_px, settings.width_px), np.uint16)
    for number in range(20):
        simulator.frame(out, 1.0, number)
    frames, seen = 0, 0
    began, used = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < options.seconds:
        seen += int(simulator.frame(out, 1.0, frames)[1]["emitters"][0])
        frames += 1
    took_s, used_s = time.perf_counter() - began, time.thread_time() - used
    return {
        "frames_per_second": round(frames / took_s, 1),
        "processor_ms_per_frame": round(1000 * used_s / frames, 2),
        "density_per_um2": round(seen / frames / settings.field_um2, 3),
    }


def beside(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A whole run: camera, core, network, feedback in advice, files."""
    from blinkloop.integrations.micromanager import MicroManagerSource, new_core

    path = resolve_model(options.model)
    session = open_session(
        path,
        CameraFlags(),
        {},
        source="Micro-Manager",
        backend=options.backend,
        threads=options.threads,
    )
    card = session.model.card
    settings = settings_of(options, card.pixel_size_nm)
    core = new_core()
    scope = load_virtual_microscope(core, settings)
    make_folder(folder)
    loop = make_loop(
        card, mode="advise", target=options.density, on_time=None, update_frames=None
    )
    wanted = round(options.seconds * options.fps)
    try:
        source = MicroManagerSource(core, camera=scope.camera, n_frames=wanted)
        run = run_live(
            source,
            session,
            loop,
            folder,
            total=wanted,
            quiet=True,
            # As `run`: room for a second.
            settings=PipelineSettings(ring_frames=max(16, math.ceil(options.fps))),
        )
        record = live_record(run, session)
        _, frames = scope.truth()
        late_s = scope.late_s
    finally:
        scope.unload()
    shown = ("frames_seen", "frames_localized", "frames_skipped", "frames_lost")
    return {
        "model": card.name,
        "backend": record["backend"],
        **{name: record[name] for name in shown},
        "late_s": round(late_s, 3),
        "camera_frames_per_second": round(wanted / (wanted / options.fps + late_s), 1),
        "localized_per_second": round(
            record["frames_localized"] / record["elapsed_s"], 1
        ),
        "density_per_um2": round(frames["emitters"].mean() / settings.field_um2, 3),
        "latency_ms": {k: round(v, 1) for k, v in record["latency_ms"].items()},
    }


def main() -> None:
    """Print the numbers, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="256x256", metavar="HxW")
    parser.add_argument("--fps", type=float, default=100.0)
    parser.add_argument("--density", type=float, default=1.0, help="per um^2")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--camera", choices=("scmos", "emccd"), default="scmos")
    parser.add_argument("--structure", default="filaments")
    parser.add_argument("--model", default="astigmatic-lite")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="the simulator only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.alone:
        found = alone(options)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            found = beside(options, Path(temporary) / "run")
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    found["load_average"] = round(os.getloadavg()[0], 1)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:26s} {value}")


if __name__ == "__main__":
    main()
