"""Run jobs in a peer's own Python, one process for many, and survive its crashes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from side_by_side.convert import PeerTable, from_picasso, from_smappy
from side_by_side.design import CAMERAS, FRAME_PX, PIXEL_SIZE_NM, Condition
from side_by_side.movies import BEAD_STEP_NM, Movie

__all__ = [
    "PEERS",
    "Peer",
    "calibration_jobs",
    "expected_emitters",
    "facts_of",
    "fit_job",
    "read_result",
    "run_jobs",
]

HERE = Path(__file__).resolve().parent

CANDIDATES_PER_EMITTER = 2
"""A peer fits this many candidates per true emitter; the threshold is cut later."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to compare with.

    Parameters
    ----------
    name, distribution
        In the table, and on PyPI.
    script
        Runs its jobs.
    convert
        Its columns to ours.
    variants
        By "3d" and "2d": settings tried on the tuning movies, by name.
    """

    name: str
    distribution: str
    script: Path
    convert: Callable[[Mapping[str, Any], float], PeerTable]
    variants: Mapping[str, Mapping[str, dict[str, Any]]]

    def version(self, python: Path) -> str:
        """Installed in that environment."""
        code = "import sys; from importlib.metadata import version as v; "
        code += "print(v(sys.argv[1]))"
        command = [str(python), "-c", code, self.distribution]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def calibration(self, variant: dict[str, Any], folder: Path) -> Path | None:
        """File of the calibration a 3D variant needs."""
        if self.name == "SMAPpy":
            return folder / "smappy-spline.h5"
        ending = "hdf5" if variant["method"].startswith("spline") else "yaml"
        return folder / f"picasso-{variant['method']}-{variant['box_px']}.{ending}"


def _picasso(methods: Sequence[str], boxes: Sequence[int]) -> dict[str, dict[str, Any]]:
    return {
        f"{method}, box {box}": {"method": method, "box_px": box}
        for method in methods
        for box in boxes
    }


# Its detection filter has the default width; its default box is 13 px.
_SMAPPY = {f"box {box}": {"sigma_px": 1.2, "box_px": box} for box in (7, 9, 13)}

PEERS = {
    "smappy": Peer(
        "SMAPpy",
        "smappy-smlm",
        HERE / "peer_smappy.py",
        from_smappy,
        {"3d": _SMAPPY, "2d": _SMAPPY},
    ),
    "picasso": Peer(
        "Picasso",
        "picassosr",
        HERE / "peer_picasso.py",
        from_picasso,
        {
            "3d": _picasso(("gausslq", "gaussmle", "spline-mle"), (7, 9, 13)),
            "2d": _picasso(("gausslq", "gaussmle"), (7, 9, 13)),
        },
    ),
}


def calibration_jobs(
    peer: Peer, beads: Movie, folder: Path, version: str
) -> list[dict[str, Any]]:
    """Every calibration the 3D variants need, once."""
    jobs = {}
    for variant in peer.variants["3d"].values():
        out = peer.calibration(variant, folder)
        assert out is not None
        jobs[out.name] = {
            "kind": "calibrate",
            "key": out.stem,
            "movie": str(beads.tiff),
            "movie_sha256": beads.facts["sha256"],
            "step_nm": BEAD_STEP_NM,
            "camera": CAMERAS["ideal"].model_dump(mode="json"),
            "roi_px": 27,
            "variant": variant,
            "version": version,
            "out": str(out),
            "facts": str(out.with_suffix(".json")),
        }
    return list(jobs.values())


def fit_job(
    peer: Peer,
    variant_name: str,
    movie: Movie,
    folder: Path,
    calibrations: Path,
    *,
    dimensions: str,
    camera: str,
    emitters: float,
    version: str,
) -> dict[str, Any]:
    """One movie with one variant; `emitters` are those expected in the whole movie."""
    variant = dict(peer.variants[dimensions][variant_name])
    slug = variant_name.replace(", ", "-").replace(" ", "")
    key = f"{movie.tiff.stem}-{slug}"
    job = {
        "kind": "fit",
        "key": key,
        "movie": str(movie.tiff),
        "movie_sha256": movie.facts["sha256"],
        "camera": CAMERAS[camera].model_dump(mode="json"),
        "variant": variant,
        "candidates": max(400, round(CANDIDATES_PER_EMITTER * emitters)),
        "version": version,
        "out": str(folder / f"{key}.npz"),
        "facts": str(folder / f"{key}.json"),
    }
    if dimensions == "3d":
        job["calibration"] = str(peer.calibration(variant, calibrations))
    return job


def expected_emitters(condition: Condition) -> float:
    """Emitters that touch the frames of a movie, rim included."""
    area_um2 = (FRAME_PX * PIXEL_SIZE_NM / 1000) ** 2
    return condition.density_per_um2 * area_um2 * condition.frames


def facts_of(job: dict[str, Any]) -> dict[str, Any] | None:
    """What a job gave; None when it has not run, or was another one."""
    path = Path(job["facts"])
    if not path.exists():
        return None
    facts: dict[str, Any] = json.loads(path.read_text())
    if facts["job"] != job:
        return None
    return facts if facts["error"] or Path(job["out"]).exists() else None


def read_result(peer: Peer, job: dict[str, Any]) -> PeerTable | None:
    """The table of a job; None when the peer failed on it."""
    facts = facts_of(job)
    if facts is None or facts["error"]:
        return None
    with np.load(job["out"], allow_pickle=False) as file:
        return peer.convert({k: file[k] for k in file.files}, PIXEL_SIZE_NM)


def run_jobs(
    peer: Peer,
    python: Path,
    jobs: Sequence[dict[str, Any]],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Run the jobs that have no result yet, on one thread.

    When the peer's process dies, the job it was at is recorded as crashed and the
    others go on in a new process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    one = {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    while left := [job for job in jobs if facts_of(job) is None]:
        for job in left:
            Path(job["out"]).parent.mkdir(parents=True, exist_ok=True)
        listing = folder / f"jobs-{peer.distribution}.jsonl"
        listing.write_text("\n".join(json.dumps(job) for job in left))
        log = folder / f"log-{peer.distribution}.txt"
        say(f"{peer.name}: {len(left)} jobs")
        at = None
        with log.open("a") as errors:
            with subprocess.Popen(
                [str(python), str(peer.script), str(listing)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **one},
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    word, _, key = line.strip().partition(" ")
                    if word == "begin":
                        at = key
                    elif word == "done":
                        at = None
                        say(f"{peer.name}: {key}")
            code = process.returncode
        if at is None and code == 0:
            return
        if at is None:
            tail = log.read_text()[-400:]
            raise SystemExit(f"{peer.name} does not run (exit code {code}): {tail}")
        job = next(job for job in left if job["key"] == at)
        facts = {"error": f"the process ended with code {code}", "job": job}
        Path(job["facts"]).write_text(json.dumps({**facts, "version": job["version"]}))
        say(f"{peer.name}: crashed at {at}")
