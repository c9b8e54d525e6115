"""Run SMAPpy on a list of movies, in SMAPpy's own environment.

Called by run.py; imports nothing of blinkloop. Reads jobs as JSON lines from a file,
prints `begin KEY` and `done KEY` around each. What SMAPpy gives is stored in its own
units and under its own names; `convert.py` turns it into ours.

    ../venv-smappy/bin/python peer_smappy.py jobs.jsonl
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import numpy as np
import smappy
from smappy.calibrate import CalibrationSettings, calibrate
from smappy.camera import to_photons
from smappy.detect import AbsoluteCutoff, DoGFilter, PeakFinder, local_maxima
from smappy.io.tiff import open_stack
from smappy.metadata import CameraMetadata


def make_calibration(job: dict) -> dict:
    """Spline from a bead stack, with its defaults; its command is smappy-calibrate."""
    result = calibrate(
        [job["movie"]],
        CalibrationSettings(dz_nm=job["step_nm"], roi_size=job["roi_px"]),
    )
    result.save(job["out"])
    return {"beads_accepted": int(result.accepted.sum())}


def camera_of(facts: dict) -> CameraMetadata:
    """Camera facts in SMAPpy's words."""
    em = facts["em_gain"] > 1
    return CameraMetadata(
        conversion=facts["e_per_adu"],
        offset=facts["baseline_adu"],
        pixelsize_um=facts["pixel_size_nm"] / 1000,
        em_on=em,
        emgain=facts["em_gain"] if em else None,
        # "ideal" has none; SMAPpy assumes 1 e- where nothing is said.
        read_noise_e=None if em else facts["read_noise_e"],
    )


def localize(job: dict) -> dict:
    """Fit the `candidates` brightest peaks; store them with what found them.

    Each candidate is fitted by itself, so cutting the table at a higher peak value
    afterwards is the same as fitting with a higher cut-off.
    """
    camera = camera_of(job["camera"])
    frames = np.concatenate([block for _, block in open_stack(job["movie"]).frames()])
    photons = to_photons(frames, camera) / camera.excess_noise
    sigma = job["variant"]["sigma_px"]
    image_filter = DoGFilter(sigma)
    filtered = image_filter(photons, n_threads=1)
    frame, _, _, value = local_maxima(filtered, n_threads=1)
    cutoff = 0.0
    if value.size > job["candidates"]:
        cutoff = float(np.partition(value, -job["candidates"])[-job["candidates"]])
    cutoff = max(cutoff, 1e-3)
    start = time.perf_counter()
    table = smappy.fit(
        job["movie"],
        camera=camera,
        calibration=job.get("calibration"),
        sigma=sigma,
        cutoff=cutoff,
        cutoff_mode="absolute",
        roisize=job["variant"]["box_px"],
        threads=1,
    )
    seconds = time.perf_counter() - start
    columns = {name: np.asarray(table[name]) for name in table}
    found, _ = PeakFinder(image_filter, AbsoluteCutoff(cutoff), n_threads=1)(photons)
    if columns:
        columns.update(peaks(columns, found, frame, value, photons.shape))
    np.savez_compressed(job["out"], **columns)
    return {"seconds": seconds, "localizations": len(table), "cutoff": cutoff}


def peaks(columns: dict, found, frame, value, shape: tuple) -> dict:
    """Peak value of each localization, and the factor of the dynamic cut-off it passes.

    The dynamic cut-off of a frame is median + factor x slope of all its maxima
    (below ten maxima: factor x mean).
    """
    _, height, width = shape
    place = (found.frame * height + found.y) * width + found.x
    order = np.argsort(place)
    wanted = (
        columns["frame"] * height + np.rint(columns["peak_y_pix"]).astype(int)
    ) * width + np.rint(columns["peak_x_pix"]).astype(int)
    at = order[np.searchsorted(place[order], wanted)]
    assert np.array_equal(place[at], wanted)
    peak = found.value[at]
    factor = np.zeros(len(peak))
    for f in np.unique(columns["frame"]):
        here, maxima = columns["frame"] == f, value[frame == f]
        if maxima.size < 10:
            factor[here] = peak[here] / max(float(np.mean(maxima)), 1e-9)
            continue
        q20, q50, q80 = np.quantile(maxima, (0.2, 0.5, 0.8))
        factor[here] = (peak[here] - q50) / max((q80 - q20) / 0.6, 1e-9)
    return {"peak_value": peak, "peak_factor": factor}


def main(path: str) -> int:
    """Run all jobs; one that fails is told and does not keep the others from it."""
    for line in Path(path).read_text().splitlines():
        job = json.loads(line)
        print(f"begin {job['key']}", flush=True)
        facts = {"version": version("smappy-smlm"), "error": None}
        try:
            made = make_calibration(job) if job["kind"] == "calibrate" else None
            facts |= made if made is not None else localize(job)
        except Exception as error:
            traceback.print_exc()
            facts["error"] = f"{type(error).__name__}: {error}"
        Path(job["facts"]).write_text(json.dumps({**facts, "job": job}, indent=1))
        print(f"done {job['key']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
