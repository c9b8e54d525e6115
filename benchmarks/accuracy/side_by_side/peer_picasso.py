"""Run Picasso on a list of movies, in Picasso's own environment.

Called by run.py; imports nothing of blinkloop. Reads jobs as JSON lines from a file,
prints `begin KEY` and `done KEY` around each. What Picasso gives is stored in its own
units and under its own names; `convert.py` turns it into ours.

    ../venv-picasso/bin/python peer_picasso.py jobs.jsonl
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
from picasso import __version__ as VERSION
from picasso import io, localize, spline, zfit

BEAD_NET_GRADIENT = 2000.0
BEAD_BOX_PX = 13


def load(path: str) -> tuple:
    """Movie and its description."""
    return io.load_movie(path)


def camera_of(facts: dict) -> dict:
    """Camera facts in Picasso's words."""
    return {
        "Baseline": facts["baseline_adu"],
        "Sensitivity": facts["e_per_adu"],
        "Gain": facts["em_gain"],
        "Qe": 1.0,
        "Pixelsize": facts["pixel_size_nm"],
    }


def make_calibration(job: dict) -> dict:
    """A calibration from a bead stack, by Picasso's own routine.

    `astigmatism`: widths of the beads over z (`zfit.calibrate_z`), fitted the way and
    with the box the movies will be; `spline`: an averaged PSF (`calibrate_spline`).
    The stage is the sample's z here: magnification factor 1.
    """
    movie, info = load(job["movie"])
    camera, variant = camera_of(job["camera"]), job["variant"]
    box = variant["box_px"]
    if variant["method"].startswith("spline"):
        made = spline.calibrate_spline(
            movie,
            info,
            camera,
            box,
            BEAD_NET_GRADIENT,
            job["step_nm"],
            magnification_factor=1.0,
        )
        # Without a path it leaves out its diagnostic plots, which take minutes.
        io.save_spline_calibration(job["out"], made)
        return {"beads": made["n_beads"], "beads_accepted": made["n_beads_used"]}
    spots = localize.identify(
        movie, BEAD_NET_GRADIENT, box, threaded=False, return_info=True
    )[0]
    table, _ = localize.fit(
        movie,
        camera_info=camera,
        identifications=spots,
        box=box,
        fitting_method=variant["method"],
        multiprocess=False,
    )
    zfit.calibrate_z(
        table, info, job["step_nm"], magnification_factor=1.0, path=job["out"]
    )
    return {"localizations": len(table)}


def run(job: dict) -> dict:
    """Fit the `candidates` spots of highest net gradient, and store all of them.

    Each spot is fitted by itself, so cutting the table at a higher net gradient
    afterwards is the same as fitting with a higher minimum.
    """
    movie, info = load(job["movie"])
    camera, variant = camera_of(job["camera"]), job["variant"]
    box, method = variant["box_px"], variant["method"]
    info[0]["Pixelsize"] = camera["Pixelsize"]
    start = time.perf_counter()
    spots, _ = localize.identify(movie, 0, box, threaded=False, return_info=True)
    if len(spots) > job["candidates"]:
        strongest = np.sort(spots["net_gradient"].to_numpy())[-job["candidates"]]
        spots = spots[spots["net_gradient"] >= strongest].reset_index(drop=True)
    calibration = job.get("calibration")
    is_spline = method.startswith("spline")
    table, fit_info = localize.fit(
        movie,
        camera_info=camera,
        identifications=spots,
        box=box,
        fitting_method=method,
        spline_calibration=(
            io.load_spline_calibration(calibration) if is_spline else None
        ),
        multiprocess=False,
    )
    if calibration and not is_spline:
        table, _ = zfit.zfit(
            table,
            [*info, fit_info],
            calibration=io.load_calibration(calibration),
            pixelsize=camera["Pixelsize"],
            fitting_method=method,
            filter=0,
            multiprocess=False,
        )
    seconds = time.perf_counter() - start
    np.savez_compressed(
        job["out"], **{name: table[name].to_numpy() for name in table.columns}
    )
    return {"seconds": seconds, "localizations": len(table)}


def main(path: str) -> int:
    """Run all jobs; one that fails is told and does not keep the others from it."""
    for line in Path(path).read_text().splitlines():
        job = json.loads(line)
        print(f"begin {job['key']}", flush=True)
        facts = {"version": VERSION, "error": None}
        try:
            facts |= make_calibration(job) if job["kind"] == "calibrate" else run(job)
        except Exception as error:
            traceback.print_exc()
            facts["error"] = f"{type(error).__name__}: {error}"
        Path(job["facts"]).write_text(json.dumps({**facts, "job": job}, indent=1))
        print(f"done {job['key']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
