"""`blinkloop doctor`: what this machine has, what is missing and the command for it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from blinkloop.cli import _machine
from blinkloop.cli._options import json_option
from blinkloop.cli._output import next_step, print_json, print_table, warn
from blinkloop.errors import InputError

__all__ = ["command"]

SLOW_DISK_MB_PER_S = 60.0
"""Below it raw frames of a 512 x 512 camera at 100 frames/s (52 MB/s) pile up."""


@click.command("doctor")
@json_option
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="here",
    help="Folder whose write speed is measured.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Micro-Manager .cfg in which --laser is looked up; nothing is loaded.",
)
@click.option(
    "--laser",
    metavar="DEVICE.PROPERTY",
    help="Say whether a dead man can reach this laser.",
)
def command(
    as_json: bool, folder: Path, config: Path | None, laser: str | None
) -> None:
    """Show what this machine can do and what is missing.

    Example: blinkloop doctor --config scope.cfg --laser L405.Power
    """
    if (config is None) != (laser is None):
        raise InputError("--config and --laser go together; give both or none")
    report = examine(folder)
    if config is not None and laser is not None:
        from blinkloop.integrations.micromanager.deadman import reach_of

        report["dead_man"][laser] = reach_of(config, laser)
    if as_json:
        print_json(report)
        return
    _show(report)


def examine(folder: Path) -> dict[str, Any]:
    """Everything `doctor --json` prints.

    Parameters
    ----------
    folder
        Where the write speed is measured.
    """
    from blinkloop.runtime.backends import backend_table

    warnings: list[str] = []
    backends = [
        {"name": row.name, "available": row.available, "reason": row.reason}
        for row in backend_table()
    ]
    if not any(row["available"] for row in backends):
        warnings.append('no backend can run a model here: pip install "blinkloop[cpu]"')
    adapters = _machine.find_camera_adapters()
    warnings += adapters.warnings
    return {
        "backends": backends,
        "gpus": _machine.find_gpus(),
        "cameras": [
            {"adapter": name, "folder": adapters.folder} for name in adapters.names
        ],
        "disk": _disk(folder, warnings),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": _machine.package_versions(),
        "missing_extras": [
            {"extra": row.extra, "packages": row.packages, "command": row.command}
            for row in _machine.missing_extras()
        ],
        "dead_man": {
            "serial_and_usb_lasers": "opened anew once a killed run is gone",
            "pycromanager_lasers": "set through a bridge of its own; Java side only",
            "simulated_lasers": "not possible: they end with the run",
        },
        "warnings": warnings,
    }


def _disk(folder: Path, warnings: list[str]) -> dict[str, Any]:
    place = str(folder.resolve())
    try:
        speed = _machine.disk_write_mb_per_s(folder)
    except OSError as error:
        warnings.append(f"nothing can be written to {place} ({error.strerror})")
        return {"folder": place, "write_mb_per_s": None}
    if speed < SLOW_DISK_MB_PER_S:
        warnings.append(
            f"{place} takes {speed:.0f} MB/s; a 512 x 512 camera at 100 frames/s makes "
            f"52 MB/s, so save raw frames elsewhere"
        )
    return {"folder": place, "write_mb_per_s": speed}


def _show(report: Mapping[str, Any]) -> None:
    print_table(
        "Backends, best first",
        ("name", "available", "reason"),
        [(row["name"], row["available"], row["reason"]) for row in report["backends"]],
    )
    print_table("Machine", ("what", "is"), _machine_rows(report))
    if report["missing_extras"]:
        print_table(
            "Not installed (only what you need)",
            ("packages", "command"),
            [
                (", ".join(row["packages"]), row["command"])
                for row in report["missing_extras"]
            ],
        )
    for text in report["warnings"]:
        warn(text)
    next_step("blinkloop demo")


def _machine_rows(report: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    disk = report["disk"]
    return [
        ("GPU", ", ".join(report["gpus"]) or "no NVIDIA GPU found"),
        ("camera adapters", _names(report["cameras"])),
        ("disk, MB/s", disk["write_mb_per_s"]),
        ("measured in", disk["folder"]),
        ("system", report["system"]),
        ("Python", report["python"]),
        *(
            (f"dead man, {name.replace('_', ' ')}", text)
            for name, text in report["dead_man"].items()
        ),
        *report["versions"].items(),
    ]


def _names(cameras: Sequence[Mapping[str, Any]], most: int = 8) -> str:
    names = [row["adapter"] for row in cameras]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "none found"
