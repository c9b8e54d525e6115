"""What was measured of the backends on this machine, kept for `auto`.

One small JSON file beside the model, or in the user's cache when the model is bundled
or its folder cannot be written. Each machine has an entry of its own, under a key over
the model's hash, the machine and the versions of everything that computes: whatever
changes, the entry no longer counts.

Design notes: notes are advice. A file that is missing, damaged, or written by another
version is as good as none, and one that cannot be written is not kept.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import blinkloop
from blinkloop.cache import cache_folder, cache_key, replace_file
from blinkloop.cuda_driver import find_gpus
from blinkloop.runtime.benchmarking.live_race import LiveRace
from blinkloop.runtime.model import ModelFile

__all__ = ["BackendNotes", "backend_notes", "remember_backends", "remember_live"]

_SUFFIX = ".backends.json"
_FORMAT_VERSION = 1
_RACES = 8
"""Frame sizes and numbers of threads that are remembered; older ones go."""
_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
)


class BackendNotes(BaseModel):
    """What is known of the backends for one model on one machine.

    Parameters
    ----------
    frames_per_second
        Backend -> speed, all measured in one run.
    passed
        Backend -> whether it computed what it should (`verify`, `bench --choose`).
    height, width, frames_per_call
        Of the run that measured the speed.
    live
        What live runs go by, for each frame size and number of threads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames_per_second: dict[str, float] = Field(default_factory=dict)
    passed: dict[str, bool] = Field(default_factory=dict)
    height: int | None = None
    width: int | None = None
    frames_per_call: int | None = None
    live: tuple[LiveRace, ...] = ()

    def live_race(self, height: int, width: int, threads: int) -> LiveRace | None:
        """The race at that frame size and number of threads; None: there was none."""
        wanted = (height, width, threads)
        for race in self.live:
            if (race.height, race.width, race.threads) == wanted:
                return race
        return None

    def trusted(self, backend: str) -> bool:
        """False when a comparison with the reference failed."""
        return self.passed.get(backend, True)

    def fastest(self, among: Iterable[str]) -> str | None:
        """The fastest measured one that may be trusted; None: nothing was measured."""
        speeds = {
            name: self.frames_per_second[name]
            for name in among
            if name in self.frames_per_second and self.trusted(name)
        }
        return max(speeds, key=speeds.__getitem__) if speeds else None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format_version: int
    entries: dict[str, BackendNotes]


def backend_notes(model: ModelFile) -> BackendNotes:
    """What is known; empty when nothing was measured here with these versions."""
    files = [file for file in _places(model) if file.is_file()]
    if not files:  # before the machine is asked what it is, which takes milliseconds
        return BackendNotes()
    key = _key(model)
    found = [notes for file in files if (notes := _read(file).get(key)) is not None]
    if not found:
        return BackendNotes()
    # Races lie in the cache, the rest in the first place that could be written.
    return found[0].model_copy(update={"live": found[-1].live})


def remember_backends(
    model: ModelFile,
    *,
    passed: Mapping[str, bool],
    frames_per_second: Mapping[str, float] | None = None,
    size: tuple[int, int] | None = None,
    frames_per_call: int | None = None,
) -> Path | None:
    """Add to what is known.

    Parameters
    ----------
    model
        The model.
    passed
        Backend -> verdict; other backends keep theirs.
    frames_per_second
        Speeds of one run; they replace all of an earlier run.
    size, frames_per_call
        Height and width, and frames per call, of that run.

    Returns
    -------
    The file written; None when none of the places can be written.
    """
    known = backend_notes(model)
    verdicts = {**known.passed, **passed}
    if frames_per_second is None:
        notes = known.model_copy(update={"passed": verdicts})
    else:
        height, width = size or (None, None)
        notes = BackendNotes(
            frames_per_second=dict(frames_per_second),
            passed=verdicts,
            height=height,
            width=width,
            frames_per_call=frames_per_call,
            live=known.live,
        )
    key = _key(model)
    for file in _places(model):
        if _write(file, key, notes):
            return file
    return None


def remember_live(model: ModelFile, race: LiveRace) -> Path | None:
    """Add a race to what is known; the file written, None when it cannot be.

    A run that only wanted to know keeps it in the cache, not beside the model.
    """
    file = _places(model)[-1]
    key = _key(model)
    known = _read(file).get(key) or backend_notes(model)
    size = (race.height, race.width, race.threads)
    others = [r for r in known.live if (r.height, r.width, r.threads) != size]
    kept = (*others, race)[-_RACES:]
    notes = known.model_copy(update={"live": kept})
    return file if _write(file, key, notes) else None


def _write(file: Path, key: str, notes: BackendNotes) -> bool:
    entries = {**_read(file), key: notes}
    text = _File(format_version=_FORMAT_VERSION, entries=entries)
    return replace_file(file, text.model_dump_json(indent=1).encode())


def _places(model: ModelFile) -> list[Path]:
    """Files that may hold notes, first choice first."""
    cached = cache_folder() / "backends" / (model.sha256 + _SUFFIX)
    path = model.path.resolve()
    if path.is_relative_to(Path(blinkloop.__file__).resolve().parent):
        return [cached]
    return [path.with_name(path.name + _SUFFIX), cached]


def _read(file: Path) -> dict[str, BackendNotes]:
    try:
        found = _File.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return {}
    return found.entries if found.format_version == _FORMAT_VERSION else {}


def _key(model: ModelFile) -> str:
    gpus = tuple(f"{gpu.name} {gpu.driver}" for gpu in find_gpus())
    return cache_key(
        model=model.sha256,
        node=platform.node(),
        processor=_processor(),
        cpus=os.cpu_count(),
        gpus=gpus,
        versions={name: _version(name) for name in ("blinkloop", *_PACKAGES)},
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
