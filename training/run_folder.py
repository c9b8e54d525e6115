"""What a run folder holds beside checkpoints: `run.json` and `recipe.yaml`.

Together they are everything that is needed to train again: settings, seed, the
realised number of iterations, the restarts, and the versions and hardware of every
session (a run may be trained over several evenings, on several computers).
"""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from blinkloop.training.checkpoint import RECIPE_FILE
from blinkloop.training.recipe import Recipe
from blinkloop.training.run_files import RunFile, copy_files

__all__ = ["RUN_FILE", "RunRecord", "write_recipe"]

RUN_FILE = "run.json"
_PACKAGES = ("blinkloop", "torch", "numpy", "scipy", "pydantic")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Model of the CPU, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _hardware(device: torch.device, processes: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def write_recipe(recipe: Recipe, folder: Path, files: list[RunFile]) -> None:
    """Write the recipe as it is trained, with the files it names beside it.

    Parameters
    ----------
    recipe
        With every choice made, and the names that the files have in the run.
    folder
        Run folder.
    files
        A measured PSF, camera maps: copied, so that the folder can be moved.
    """
    copy_files(files, folder)
    recipe.save(folder / RECIPE_FILE)


class RunRecord:
    """Keeps `run.json` up to date; a session is added when it is made.

    Parameters
    ----------
    folder
        Run folder.
    device
        torch device.
    processes
        How many share the work.
    iteration
        Where the session begins.
    """

    def __init__(
        self, folder: Path, device: torch.device, *, processes: int, iteration: int
    ) -> None:
        self._path = folder / RUN_FILE
        self._sessions = self._old_sessions()
        self._session: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "hardware": _hardware(device, processes),
            "from_iteration": iteration,
        }

    def _old_sessions(self) -> list[dict[str, Any]]:
        try:
            sessions = json.loads(self._path.read_text(encoding="utf-8"))["sessions"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return list(sessions) if isinstance(sessions, list) else []

    def write(self, **facts: Any) -> None:
        """Write the file: facts about the run as a whole, and the sessions."""
        self._session["to_iteration"] = facts["iterations"]
        record = {
            "format_version": 1,
            **facts,
            "sessions": [*self._sessions, self._session],
        }
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._path)
