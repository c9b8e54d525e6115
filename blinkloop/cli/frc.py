"""`blinkloop frc`: the resolution that a table of localizations has."""

from __future__ import annotations

import math
from pathlib import Path

import click

from blinkloop.cli._locs import locs_options, read_locs
from blinkloop.cli._options import FiniteRange, json_option
from blinkloop.cli._output import note, print_json, print_table, warn
from blinkloop.errors import CheckFailedError, InputError

__all__ = ["command"]

_TRUSTED_PX = 4
"""Resolutions of fewer pixels of the picture are those of the pixels."""


@click.command("frc", short_help="Resolution by Fourier ring correlation.")
@locs_options
@click.option(
    "--pixel-nm",
    type=FiniteRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Pixel of the pictures that are correlated.",
)
@click.option(
    "--block",
    type=click.IntRange(1),
    metavar="FRAMES",
    help="Frames that stay in one half; default: a twentieth of them, at most 500.",
)
@click.option(
    "--splits",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="How often the blocks are dealt out at random.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Write the curve: frequency in 1/nm, correlation.",
)
@click.option("--overwrite", is_flag=True, help="Allow replacing CSV.")
@json_option
def command(
    locs: Path,
    frames: str | None,
    pixel_size_nm: float | None,
    pixel_nm: float,
    block: int | None,
    splits: int,
    seed: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Resolution of LOCS, any table that convert reads, in x and y.

    Blocks of frames are dealt out to two halves, whose pictures are correlated ring by
    ring in Fourier space; the resolution is where that falls below 1/7 (Nieuwenhuizen
    et al. 2013). Emitters on for longer than a block, and drift between blocks, are
    counted as structure and as blur.

    Example: blinkloop frc locs.hdf5
    """
    import numpy as np

    from blinkloop.integrations.formats.files import refuse_existing, whole_files
    from blinkloop.metrics.ring_correlation import ring_correlation

    if out is not None:
        if out.suffix.lower() != ".csv":
            raise InputError(f"{out}: curves are written as .csv; give such a name")
        refuse_existing([out], overwrite=overwrite)
    table = read_locs(locs, frames, pixel_size_nm)
    found = ring_correlation(
        table.data["x_px"] * table.pixel_size_nm,
        table.data["y_px"] * table.pixel_size_nm,
        table.data["frame"],
        pixel_nm=pixel_nm,
        frames_per_block=block,
        splits=splits,
        seed=seed,
    )
    if out is not None:
        with whole_files([out], overwrite=overwrite) as (temporary,):
            np.savetxt(
                temporary,
                np.column_stack([found.frequency_per_nm, found.correlation]),
                fmt="%.6g",
                delimiter=",",
                header="frequency [1/nm],correlation",
                comments="",
            )
        note(f"curve: {out}")
    if not math.isfinite(found.resolution_nm):
        raise CheckFailedError(
            f"{locs}: the halves do not agree on any structure, or agree to the last "
            f"pixel of {pixel_nm:g} nm ({found.localizations} localizations); take "
            f"more frames, or another --pixel-nm"
        )
    if found.resolution_nm < _TRUSTED_PX * pixel_nm:
        warn(
            f"{found.resolution_nm:.1f} nm are fewer than {_TRUSTED_PX} pixels of "
            f"{pixel_nm:g} nm; take a smaller --pixel-nm"
        )
    record = {
        "resolution_nm": found.resolution_nm,
        "resolution_sd_nm": found.sd_nm,
        "localizations": found.localizations,
        "pixel_nm": pixel_nm,
        "frames_per_block": found.frames_per_block,
        "splits": splits,
        "seed": seed,
    }
    if as_json:
        print_json(record)
        return
    print_table(
        f"Fourier ring correlation of {locs}",
        ["resolution, nm", "SD over splits, nm", "localizations", "frames per block"],
        [
            [
                found.resolution_nm,
                found.sd_nm,
                found.localizations,
                found.frames_per_block,
            ]
        ],
    )
