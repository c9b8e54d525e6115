"""What `doctor` finds out about this machine.

Design notes
------------
Every probe returns facts and never fails: a probe that cannot look says so in words.
Nothing here loads a vendor's device adapter, because opening a driver can hang.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from blinkloop.extras import installed, require

__all__ = [
    "CameraAdapters",
    "MissingExtra",
    "disk_write_mb_per_s",
    "find_camera_adapters",
    "find_gpus",
    "missing_extras",
    "package_versions",
]

PACKAGES = (
    "blinkloop",
    "numpy",
    "pydantic",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "onnx",
    "torch",
    "zarr",
    "pymmcore",
    "pymmcore-plus",
    "mm-test-adapters",
)
"""Distributions whose versions decide what works together."""

# Extras that stand for a choice or for work on blinkloop itself: not missed by anyone.
_NOT_MISSED = frozenset({"demo", "test", "interop"})


@dataclass(frozen=True, slots=True)
class CameraAdapters:
    """Micro-Manager device adapters that could be found.

    Parameters
    ----------
    folder
        Where they lie; None when there is no Micro-Manager.
    names
        Names of the adapter libraries, sorted.
    warnings
        Why they cannot be used, if so.
    """

    folder: str | None
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MissingExtra:
    """An extra that is not (fully) installed, and the command that brings it."""

    extra: str
    packages: tuple[str, ...]
    command: str


def package_versions() -> dict[str, str]:
    """Versions of the installed packages among `PACKAGES`."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def missing_extras() -> list[MissingExtra]:
    """Extras of blinkloop with packages that are not installed, by its metadata."""
    wanted: dict[str, list[str]] = {}
    for requirement in metadata.requires("blinkloop") or []:
        head, _, marker = requirement.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        name = re.match(r"[A-Za-z0-9._-]+", head.strip())
        if extra and name and extra[1] not in _NOT_MISSED:
            wanted.setdefault(extra[1], []).append(name[0])
    missing = []
    for extra_name, names in wanted.items():
        absent = tuple(name for name in names if not _has_distribution(name))
        if absent:
            command = f'pip install "blinkloop[{extra_name}]"'
            missing.append(MissingExtra(extra_name, absent, command))
    return missing


def find_gpus() -> list[str]:
    """Names of NVIDIA GPUs, by their driver's own tool; empty when there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def disk_write_mb_per_s(folder: Path, megabytes: int = 32) -> float:
    """Sustained write speed of a folder, MB/s, file system cache excluded.

    Raises
    ------
    OSError
        When nothing can be written there.
    """
    block = os.urandom(1_000_000)  # random: some disks and file systems compress
    with tempfile.TemporaryFile(dir=folder, prefix=".blinkloop-doctor-") as file:
        start = time.perf_counter()
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return megabytes / (time.perf_counter() - start)


def find_camera_adapters() -> CameraAdapters:
    """Device adapters of the Micro-Manager that pymmcore-plus finds."""
    if not installed("pymmcore_plus"):
        text = 'pymmcore-plus is not installed: pip install "blinkloop[micromanager]"'
        return CameraAdapters(None, (), (text,))
    plus = require("pymmcore_plus", "Finding cameras", "micromanager")
    folder = plus.find_micromanager()
    if not folder:
        text = (
            "no Micro-Manager was found: install it, or its device adapters for tests "
            'with pip install "blinkloop[demo]"'
        )
        return CameraAdapters(None, (), (text,))
    core = plus.CMMCorePlus()
    names = tuple(sorted(core.getDeviceAdapterNames()))
    return CameraAdapters(str(folder), names, tuple(_interface_warnings(core, names)))


def _interface_warnings(core: object, names: tuple[str, ...]) -> list[str]:
    """Try the harmless DemoCamera: adapters of another interface version all fail."""
    if "DemoCamera" not in names:
        return []
    try:
        core.getAvailableDevices("DemoCamera")  # type: ignore[attr-defined]
    except RuntimeError:
        pymmcore = metadata.version("pymmcore")
        interface = (pymmcore.split(".") + ["?"] * 4)[3]
        text = (
            f"the device adapters do not load: pymmcore {pymmcore} speaks device "
            f"interface {interface}, the Micro-Manager found speaks another; install "
            f"the pymmcore whose 4th number is the one in Help > About Micro-Manager"
        )
        return [text]
    return []


def _has_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
