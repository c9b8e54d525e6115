"""`blinkloop models`: the bundled models and what their cards say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._options import json_option
from blinkloop.cli._output import next_step, note, print_json, print_table

if TYPE_CHECKING:
    from blinkloop.schema import ModelCard

__all__ = ["command"]

_ACCURACY = ("jaccard", "rmse_lateral_nm", "rmse_axial_nm")


@click.command("models")
@json_option
def command(as_json: bool) -> None:
    """List the bundled models and their measured accuracy.

    Example: blinkloop models
    """
    from blinkloop.runtime.model import read_card

    rows = [
        describe(name, path, read_card(path)) for name, path in bundled_models().items()
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("no model is bundled with this build of blinkloop")
        next_step("blinkloop train --help")
        return
    _show(rows)
    next_step(f"blinkloop fit MOVIE -m {rows[0]['name']} -o locs.hdf5")


def describe(name: str, path: Path, card: ModelCard) -> dict[str, Any]:
    """One entry of `models --json`.

    Parameters
    ----------
    name
        What `-m` calls the model.
    path
        Its file.
    card
        Its card. Accuracy that was not measured is None.
    """
    accuracy = card.accuracy
    return {
        "name": name,
        "file": path,
        "size_mb": path.stat().st_size / 1e6,
        "description": card.description,
        "architecture": card.architecture,
        "psf": card.psf.kind,
        "pixel_size_nm": card.pixel_size_nm,
        "z_range_nm": card.z_range_nm,
        **{key: accuracy.get(key) for key in _ACCURACY},
        "accuracy": accuracy,
        "training_ranges": card.training_ranges,
        "camera": card.camera,
        "detection": card.detection,
        "provenance": card.provenance,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    columns = {
        "name": "name",
        "features": "features",
        "pixel, nm": "pixel_size_nm",
        "z, nm": "z_range_nm",
        "Jaccard": "jaccard",
        "lateral RMSE, nm": "rmse_lateral_nm",
        "axial RMSE, nm": "rmse_axial_nm",
        "MB": "size_mb",
    }

    def value(row: Mapping[str, Any], key: str) -> Any:
        return row["architecture"].features if key == "features" else row[key]

    print_table(
        "Bundled models",
        list(columns),
        [[value(row, key) for key in columns.values()] for row in rows],
    )
