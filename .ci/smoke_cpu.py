"""Smoke test of the wheel with only the `cpu` extra: it runs, and it is lean.

Run with the environment's own interpreter, isolated (-I) and outside the repository;
the argument is the environment's folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST_PACKAGES = 16
"""blinkloop, its 4 dependencies and onnxruntime, with what these need themselves."""


def run(*command: str) -> str:
    """Stdout of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def main(environment: Path) -> None:
    """Exit with a message when something does not hold."""
    import blinkloop.runtime

    home = Path(blinkloop.runtime.__file__)
    if environment not in home.parents:
        sys.exit(f"{home} is not the installed wheel")
    if "torch" in sys.modules:
        sys.exit("importing blinkloop.runtime imported torch")

    pip = [sys.executable, "-m", "pip", "list", "--format=json"]
    names = {row["name"].lower() for row in json.loads(run(*pip))}
    names -= {"pip", "setuptools", "wheel"}  # the environment's own
    print(f"{len(names)} packages: {', '.join(sorted(names))}")
    if "torch" in names or len(names) > MOST_PACKAGES:
        sys.exit(f"torch or more than {MOST_PACKAGES} packages are installed")

    blinkloop_command = str(Path(sys.executable).with_name("blinkloop"))
    print(run(blinkloop_command, "doctor"))
    report = json.loads(run(blinkloop_command, "doctor", "--json"))
    usable = [row["name"] for row in report["backends"] if row["available"]]
    if usable != ["onnxruntime-cpu"]:
        sys.exit(f"usable backends: {usable}")
    if not any(row["extra"] == "io" for row in report["missing_extras"]):
        sys.exit("doctor does not miss the extra io")
    models = json.loads(run(blinkloop_command, "models", "--json"))
    if not models:
        sys.exit("no model is bundled")
    for model in models:
        print(f"model {model['name']}: Jaccard {model['jaccard']}")
        stream(Path(model["file"]))


def stream(path: Path) -> None:
    """Run a model on a little noise; wrong shapes and missing operators show here."""
    import numpy as np

    from blinkloop.runtime.backends import create_backend
    from blinkloop.runtime.camera_maps import CameraMaps
    from blinkloop.runtime.model import read_model

    model = read_model(path)
    maps = CameraMaps(np.full((1, 1), 100.0, "f4"), np.full((1, 1), 0.5, "f4"))
    backend = create_backend("auto", model, maps)
    rng = np.random.default_rng(0)
    frames = rng.poisson(140, (5, 33, 50)).astype(np.float32)
    output = backend.step(frames, segment_start=True)
    backend.close()
    frames_rows_columns = output.detections.shape
    rows = max(16, output.counts.max())  # a CPU's table is as long as it has to be
    if frames_rows_columns[::2] != (5, 11) or not rows <= frames_rows_columns[1]:
        sys.exit(f"{path}: detections {frames_rows_columns}, counts {output.counts}")
    if not np.isfinite(output.detections).all():
        sys.exit(f"{path}: detections are not finite")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
