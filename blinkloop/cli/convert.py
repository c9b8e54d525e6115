"""`blinkloop convert`: a table of localizations in another format."""

from __future__ import annotations

from pathlib import Path

import click

from blinkloop.cli._options import json_option
from blinkloop.cli._output import note, print_json
from blinkloop.cli._show import open_next

__all__ = ["command"]


@click.command(
    "convert", short_help="Write a table of localizations in another format."
)
@click.argument("source", type=click.Path(path_type=Path), metavar="A")
@click.argument("target", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "--pixel-size-nm",
    type=float,
    help="Pixel size in nm; needed when A does not say it, overrules A when it does.",
)
@click.option("--overwrite", is_flag=True, help="Allow replacing B.")
@json_option
def command(
    source: Path,
    target: Path,
    pixel_size_nm: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert table A to B, in the format of B's ending.

    Reads Picasso .hdf5, ThunderSTORM .csv, DECODE .h5 and .csv, SMAP .mat and .csv,
    SMAPpy .h5, .smlm, .parquet, storm-analysis .hdf5, Insight3 .bin, text tables of the
    SMLM challenge, Elyra, Nanoimager, N-STORM, Leica GSD, PeakFit, QuickPALM, Vutara
    and rapidSTORM, and live stores; writes .hdf5 (Picasso, with a .yaml beside it),
    .csv (ThunderSTORM), .decode.h5 (DECODE), .mat (SMAP), .parquet.

    Example: blinkloop convert locs.zarr locs.hdf5
    """
    from blinkloop.errors import InputError
    from blinkloop.integrations.formats import (
        check_table_path,
        read_table,
        write_table,
    )

    if target.resolve() == source.resolve():
        raise InputError(f"{source}: a table cannot be converted into itself")
    check_table_path(target, overwrite=overwrite)
    table = read_table(source, pixel_size_nm)
    files = write_table(table, target, overwrite, pixel_size_nm=pixel_size_nm)
    if as_json:
        print_json({"localizations": len(table), "files": [str(f) for f in files]})
        return
    note(f"{len(table)} localizations: {source} -> {', '.join(map(str, files))}")
    open_next(target)
