"""Our network beside SMAPpy and Picasso, on the same simulated movies.

    bash benchmarks/accuracy/setup_peers.sh ../venv-smappy ../venv-picasso
    python benchmarks/accuracy/run.py --out FOLDER \
        --smappy-python ../venv-smappy/bin/python \
        --picasso-python ../venv-picasso/bin/python

Each stage keeps what it made in FOLDER and leaves out what is there, so a run can be
stopped and started again, and another --model costs only its own fits. A tool without
a --...-python is left out. README.md beside this file says what is compared, and how.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import yaml
from side_by_side.convert import is_misread, median_shift, shifted
from side_by_side.design import CAMERAS, DENSITIES, PHOTONS, SETS, Condition, grid
from side_by_side.movies import (
    BEAD_Z_NM,
    CHECK_FRAMES,
    make_beads,
    make_check,
    make_movie,
)
from side_by_side.peers import (
    PEERS,
    Peer,
    calibration_jobs,
    expected_emitters,
    facts_of,
    fit_job,
    read_result,
    run_jobs,
)
from side_by_side.report import write_report
from side_by_side.scoring import Choice, apply, score, tune

import blinkloop
from blinkloop.cli._bundled import resolve_model
from blinkloop.integrations.formats import read_live_store
from blinkloop.runtime.model import read_model

PILOT = ("ideal", 5000)
"""Camera and photons at which a peer's variant is chosen for each density."""


def say(text: str) -> None:
    """Progress, with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def keep(path: Path, record: dict[str, Any]) -> None:
    """Write one result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))


def run_ours(out: Path, model: Path, conditions: Sequence[Condition]) -> str:
    """Fit every test movie through `blinkloop fit`; the name of the results' folder."""
    read = read_model(model)
    tool = f"ours-{read.card.name}-{read.sha256[:8]}"
    for condition in conditions:
        path = out / "results" / tool / f"{condition.name}.json"
        movie = make_movie(out / "movies", condition)
        outside = condition.outside(read.card)
        if _done(path, movie.facts["sha256"]):
            keep(path, {**json.loads(path.read_text()), "outside_training": outside})
            continue
        record: dict[str, Any] = {
            "tool": tool,
            "version": f"blinkloop {blinkloop.__version__}",
            "model": read.card.name,
            "model_sha256": read.sha256,
            "threshold": read.card.detection.threshold,
            "movie_sha256": movie.facts["sha256"],
            "outside_training": outside,
            "error": None,
        }
        with tempfile.TemporaryDirectory(dir=out) as folder:
            camera = Path(folder) / "camera.yaml"
            facts = CAMERAS[condition.camera].model_dump(exclude_none=True)
            camera.write_text(yaml.safe_dump(facts))
            store = Path(folder) / "locs.zarr"
            command = [sys.executable, "-m", "blinkloop.cli", "fit", str(movie.tiff)]
            command += ["-m", str(model), "-o", str(store), "--camera", str(camera)]
            command += ["--threads", "1", "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                record["error"] = done.stderr.strip().splitlines()[-1]
            else:
                fitted = json.loads(done.stdout)
                record["seconds"] = fitted["seconds"]
                record["warnings"] = fitted["warnings"]
                table = read_live_store(store)
                assert movie.truth is not None
                record["score"] = score(condition, movie.truth, table.data)
        keep(path, record)
        say(f"ours: {condition.name} {_short(record)}")
    return tool


def run_peer(
    out: Path, name: str, python: Path, conditions: Sequence[Condition]
) -> str:
    """Calibrate, check, tune, fit and score one peer."""
    peer = PEERS[name]
    version = peer.version(python)
    tool = f"{name}-{version}"
    raw, calibrations = out / "raw" / tool, out / "calibration" / tool
    jobs = out / "jobs"
    # First frame at the top: in this order both peers give z the sign of the sample's.
    beads = make_beads(out / "movies", first_z_nm=BEAD_Z_NM)
    made = calibration_jobs(peer, beads, calibrations, version)
    run_jobs(peer, python, made, jobs, say)
    shifts = check_peer(out, peer, tool, python, raw, calibrations, version)

    def job(variant: str, condition: Condition) -> dict[str, Any]:
        return fit_job(
            peer,
            variant,
            make_movie(out / "movies", condition),
            raw,
            calibrations,
            dimensions=condition.dimensions,
            camera=condition.camera,
            emitters=expected_emitters(condition),
            version=version,
        )

    def tuned(
        wanted: Mapping[Condition, Sequence[str]],
    ) -> dict[Condition, Choice | None]:
        """Best settings for each condition among the variants named."""
        items = {
            condition: {name: job(name, condition.tuning()) for name in names}
            for condition, names in wanted.items()
        }
        flat = [item for by_name in items.values() for item in by_name.values()]
        run_jobs(peer, python, flat, jobs, say)
        found = {}
        for condition, by_name in items.items():
            tables = {}
            for name, item in by_name.items():
                table = read_result(peer, item)
                if table is not None:
                    moved = shifted(table.rows, shifts[condition.dimensions, name])
                    tables[name] = replace(table, rows=moved)
            movie = make_movie(out / "movies", condition.tuning())
            assert movie.truth is not None
            found[condition] = tune(condition.tuning(), movie.truth, tables)
        return found

    pilots = {c: replace(c, camera=PILOT[0], photons=PILOT[1]) for c in conditions}
    best = tuned({p: list(peer.variants[p.dimensions]) for p in pilots.values()})
    variants = {
        c: [choice.variant]
        if (choice := best[p])
        else list(peer.variants[c.dimensions])
        for c, p in pilots.items()
    }
    choices = tuned(variants)
    say(f"{peer.name}: tuned for {len(choices)} conditions")
    tests = {c: job(choice.variant, c) for c, choice in choices.items() if choice}
    run_jobs(peer, python, list(tests.values()), jobs, say)
    for condition, choice in choices.items():
        record: dict[str, Any] = {"tool": tool, "version": f"{peer.name} {version}"}
        record["error"] = None
        if choice is None:
            facts = facts_of(job(variants[condition][0], condition.tuning())) or {}
            record["error"] = f"no variant ran: {facts.get('error')}"
        else:
            item = tests[condition]
            facts, table = facts_of(item), read_result(peer, item)
            assert facts is not None
            movie = make_movie(out / "movies", condition)
            assert movie.truth is not None
            record |= {"choice": choice.as_dict(), "error": facts["error"]}
            if table is not None:
                shift = shifts[condition.dimensions, choice.variant]
                record["seconds"] = facts["seconds"]
                record["score"] = score(
                    condition, movie.truth, shifted(apply(table, choice), shift)
                )
        keep(out / "results" / tool / f"{condition.name}.json", record)
        say(f"{peer.name}: {condition.name} {_short(record)}")
    return tool


def check_peer(
    out: Path,
    peer: Peer,
    tool: str,
    python: Path,
    raw: Path,
    calibrations: Path,
    version: str,
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Constant shift of every variant on single bright emitters, by set and variant."""
    jobs = {
        (dimensions, variant): fit_job(
            peer,
            variant,
            make_check(out / "movies", dimensions),
            raw,
            calibrations,
            dimensions=dimensions,
            camera="ideal",
            emitters=CHECK_FRAMES / 3,
            version=version,
        )
        for dimensions in SETS
        for variant in peer.variants[dimensions]
    }
    run_jobs(peer, python, list(jobs.values()), out / "jobs", say)
    shifts, record = {}, {}
    for (dimensions, variant), job in jobs.items():
        table = read_result(peer, job)
        if table is None:
            shifts[dimensions, variant] = (0.0, 0.0, 0.0)
            continue
        truth = make_check(out / "movies", dimensions).truth
        assert truth is not None
        # One per frame, the strongest: noise peaks have no partner here.
        rows = table.rows[table.rows["photons"] > 5000]
        shift = median_shift(truth, rows)
        if dimensions == "2d":
            shift = (shift[0], shift[1], 0.0)
        if is_misread(shift):
            raise SystemExit(
                f"{tool}, {dimensions} {variant}: single emitters are off by "
                f"{shift[0]:.2f}, {shift[1]:.2f} px; its coordinates are misread"
            )
        shifts[dimensions, variant] = shift
        record[f"{dimensions} {variant}"] = {"shift_px_px_nm": shift, "n": len(rows)}
    keep(out / "results" / f"check-{tool}.json", record)
    return shifts


def _done(path: Path, sha256: str) -> bool:
    """Fitted without an error (ours are tried again), from these pixels."""
    if not path.exists():
        return False
    record = json.loads(path.read_text())
    return record["error"] is None and record["movie_sha256"] == sha256


def _short(record: dict[str, Any]) -> str:
    if record["error"]:
        return f"error: {record['error']}"
    found = record["score"]
    return (
        f"E_vol {100 * found['efficiency_volume']:.1f} "
        f"E_lat {100 * found['efficiency_lateral']:.1f} J {found['jaccard']:.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 even when a peer failed on a condition (the table says)."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--model", default="astigmatic", help="name or .onnx")
    parser.add_argument("--smappy-python", type=Path, help="python with smappy-smlm")
    parser.add_argument("--picasso-python", type=Path, help="python with picassosr")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=list(CAMERAS))
    parser.add_argument("--photons", nargs="+", type=int, default=list(PHOTONS))
    parser.add_argument("--densities", nargs="+", type=float, default=list(DENSITIES))
    parser.add_argument(
        "--quick", action="store_true", help="three densities, 5000 photons, ideal, 3D"
    )
    parser.add_argument(
        "--tools", nargs="+", choices=["ours", *PEERS], default=["ours", *PEERS]
    )
    parser.add_argument("--docs", type=Path, help="put tables and figures there too")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sets, options.cameras = ["3d"], ["ideal"]
        options.photons = [5000]
        options.densities = [DENSITIES[1], DENSITIES[4], DENSITIES[5]]
    conditions = list(
        grid(options.sets, options.cameras, options.photons, options.densities)
    )
    out = options.out.resolve()
    for condition in conditions:
        make_movie(out / "movies", condition)
    say(f"{len(conditions)} movies in {out / 'movies'}")
    model = resolve_model(options.model)
    tools = [run_ours(out, model, conditions if "ours" in options.tools else [])]
    for name in PEERS:
        python = getattr(options, f"{name}_python")
        if python is not None and name in options.tools:
            tools.append(run_peer(out, name, python, conditions))
        else:
            # What an earlier run of this peer left.
            left = sorted((out / "results").glob(f"{name}-*"))
            tools += [left[-1].name] if left else []
    write_report(out, tools, conditions, docs=options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
