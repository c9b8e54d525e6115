"""`blinkloop calibrate`: a PSF from bead stacks or another program's calibration."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._options import CameraFlags, camera_options, json_option
from blinkloop.cli._output import next_step, note, print_json, print_table, warn
from blinkloop.errors import InputError
from blinkloop.extras import installed, require

if TYPE_CHECKING:
    from blinkloop.psf_file import PsfCalibration
    from blinkloop.training.calibration.bead_report import BeadCalibration

__all__ = ["command"]

_OF_BEADS = (
    "dz_nm",
    "roi_px",
    "focus",
    "falling",
    "smooth_z_nm",
    "equal_light",
    "correct_drift",
    "frames_per_slice",
)


@click.command("calibrate", short_help="Make a PSF from beads, or convert one.")
@click.argument(
    "beads",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="BEADS...",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="PSF file to write (.h5); a picture is written beside it.",
)
@click.option("--dz-nm", type=float, help="Step of the stage between slices in nm.")
@click.option(
    "--roi-px", type=int, help="Window around a bead in px, odd; default: found."
)
@click.option(
    "--focus",
    default=None,
    metavar="auto|middle|SLICE",
    help="Which slice is z = 0 (counted from 0); default: the sharpest plane.",
)
@click.option(
    "--falling", is_flag=True, help="The focus was moved down from slice to slice."
)
@click.option(
    "--em-mirror",
    is_flag=True,
    help="Mirror left to right: read out by the other amplifier than the movies.",
)
@click.option(
    "--smooth-z-nm",
    type=float,
    help="Height of a voxel in nm; default: the step, but at least 75.",
)
@click.option(
    "--equal-light", is_flag=True, help="Give every slice the same light (bleaching)."
)
@click.option(
    "--correct-drift", is_flag=True, help="Take out a steady sideways motion."
)
@click.option(
    "--frames-per-slice",
    type=click.IntRange(1),
    help="Frames at each height, one after the other; default: found.",
)
@click.option(
    "--region", type=click.IntRange(0), default=0, help="Part of the field, from 0."
)
@click.option(
    "--channel", type=click.IntRange(0), default=0, help="Colour channel, from 0."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@camera_options
@json_option
def command(
    beads: tuple[Path, ...],
    out: Path,
    region: int,
    channel: int,
    em_mirror: bool,
    overwrite: bool,
    camera_flags: CameraFlags,
    as_json: bool,
    **choices: Any,
) -> None:
    """Make a PSF from z-stacks of BEADS, or convert a calibration.

    Stacks: TIFF, a folder of TIFF files, NDTiff, OME-Zarr, HDF5, NumPy. Calibrations:
    SMAP *_3dcal.mat, uiPSF and SMAPpy .h5, Picasso and ThunderSTORM .yaml,
    storm-analysis .xml, rapidSTORM .txt.

    Example: blinkloop calibrate beads.tif --dz-nm 50 --pixel-size-nm 100 -o psf.h5
    """
    require("scipy", "Calibrating a PSF", "train")
    require("h5py", "Writing PSF files", "train")
    _check_out(out, overwrite)
    if _is_calibration(beads):
        _refuse_bead_options(choices)
        record = _convert(beads, out, camera_flags, region, channel, em_mirror)
    else:
        record = _calibrate(beads, out, camera_flags, em_mirror, choices, as_json)
    if as_json:
        print_json(record)
        return
    _say_recipe(out, record)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(
            f"{out}: a PSF is written as HDF5; give a name that ends in .h5 to -o"
        )
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the name of a file to -o")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist; make it")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; choose another name or --overwrite")


def _is_calibration(paths: tuple[Path, ...]) -> bool:
    from blinkloop.training.calibration.files import is_calibration

    found = [is_calibration(path) for path in paths]
    if any(found) and len(paths) > 1:
        raise InputError(
            f"{paths[found.index(True)]} is a calibration; it is converted alone, give "
            f"it without other files"
        )
    return any(found)


def _refuse_bead_options(choices: dict[str, Any]) -> None:
    given = [name for name in _OF_BEADS if choices[name] not in (None, False)]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise InputError(
            f"{option} is for bead stacks; a calibration file is converted as it is: "
            f"leave it out"
        )


def _convert(
    paths: tuple[Path, ...],
    out: Path,
    flags: CameraFlags,
    region: int,
    channel: int,
    em_mirror: bool,
) -> dict[str, Any]:
    from blinkloop.psf_file import write_psf
    from blinkloop.training.calibration.files import read_calibration

    calibration = read_calibration(
        paths[0],
        pixel_size_nm=_pixel_size(flags),
        region=region,
        channel=channel,
        em_mirrored=True if em_mirror else None,
    )
    write_psf(out, calibration)
    source, quality = dict(calibration.source), dict(calibration.quality)
    if source.get("notes"):
        note(source["notes"])
    note(f"{source.get('program', 'calibration')}: {paths[0]} -> {out}")
    return {
        **_summary(calibration, out),
        "quality": quality,
        "source": source,
        "figure": None,
    }


def _pixel_size(flags: CameraFlags) -> float | None:
    from blinkloop.camera_facts import read_camera_file

    file = read_camera_file(flags.file) if flags.file else {}
    value = flags.values.get("pixel_size_nm", file.get("pixel_size_nm"))
    return None if value is None else float(value)


def _calibrate(
    paths: tuple[Path, ...],
    out: Path,
    flags: CameraFlags,
    em_mirror: bool,
    choices: dict[str, Any],
    as_json: bool,
) -> dict[str, Any]:
    from blinkloop.cli._bead_stacks import read_stacks
    from blinkloop.psf_file import write_psf
    from blinkloop.training.calibration.bead_records import BeadSettings
    from blinkloop.training.calibration.beads import calibrate_beads

    dz_nm = choices.pop("dz_nm")
    focus = _focus(choices.pop("focus"))
    if dz_nm is not None and dz_nm <= 0:
        # Said before the files are read; so is everything that BeadSettings refuses.
        BeadSettings(dz_nm, 100.0)
    read = read_stacks(paths, dz_nm=dz_nm, flags=flags)
    settings = BeadSettings(
        read.dz_nm, read.pixel_size_nm, focus=focus, mirrored=em_mirror, **choices
    )
    for text in read.notes:
        note(text)
    result = calibrate_beads(read.stacks, settings, progress=note)
    write_psf(out, result.calibration)
    figure = _draw(result, out, [stack.name for stack in read.stacks])
    for text in result.notes:
        note(text)
    for drop in result.dropped:
        note(
            f"not used: bead at ({drop.x_px:.0f}, {drop.y_px:.0f}) of {drop.stack}: "
            f"{drop.reason}"
        )
    for text in result.warnings:
        warn(text)
    if not as_json:
        _show(result)
    record = result.record()
    return {**record, **_summary(result.calibration, out), "figure": figure}


def _focus(text: str | None) -> Any:
    if text is None or text in ("auto", "middle"):
        return text or "auto"
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--focus {text}: give auto, middle or the number of a slice, from 0"
        ) from None


def _draw(result: BeadCalibration, out: Path, names: list[str]) -> Path | None:
    if not installed("matplotlib"):
        note("no picture: matplotlib is not installed (pip install blinkloop[train])")
        return None
    from blinkloop.training.calibration.bead_figure import calibration_figure

    path = out.with_suffix(".png")
    title = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    calibration_figure(result, title=f"{title} -> {out.name}").savefig(path)
    return path


def _summary(calibration: PsfCalibration, out: Path) -> dict[str, Any]:
    from blinkloop.psf_file import file_sha256

    rows, columns = calibration.psf().window_shape
    return {
        "file": out,
        "sha256": file_sha256(out),
        "pixel_size_nm": calibration.pixel_size_nm,
        "dz_nm": calibration.dz_nm,
        "z_range_nm": list(calibration.z_range_nm),
        "window_px": [rows, columns],
    }


def _show(result: BeadCalibration) -> None:
    c, q = result.calibration, result.calibration.quality
    low, high = c.z_range_nm
    rows, columns = c.psf().window_shape
    fitted = (f"{q[f'refit_rmse_{axis}_nm']:.1f}" for axis in "xyz")
    bound = (_or_unknown(q[f"crlb_{axis}_nm_5000_photons"]) for axis in "xyz")
    print_table(
        "PSF",
        ("", "value"),
        [
            ("beads used, not used", f"{len(result.used)}, {len(result.dropped)}"),
            ("z range, nm", f"{low:.0f} to {high:.0f}"),
            ("voxels, px and nm", f"{columns} x {rows} px, {c.dz_nm:.0f} nm"),
            ("difference of beads to the PSF, %", _residual(result)),
            ("beads fitted, RMSE in x, y, z, nm", ", ".join(fitted)),
            ("fitted z per stage z", f"{q['refit_z_slope']:.3f}"),
            ("bound at 5000 photons in x, y, z, nm", ", ".join(bound)),
        ],
    )


def _or_unknown(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "unknown"


def _residual(result: BeadCalibration) -> str | None:
    """Of one bead there is none: the PSF is that bead."""
    if len(result.used) == 1:
        return None
    return f"{100 * result.calibration.quality['residual_median']:.1f}"


def _say_recipe(out: Path, record: dict[str, Any]) -> None:
    low, high = record["z_range_nm"]
    lines = [
        f"{out} holds the PSF; in a recipe (see docs/calibration.md):",
        "psf:",
        "  kind: spline",
        f"  file: {out.name}",
        f"  sha256: {record['sha256']}",
        f"  z_range_nm: [{low:.0f}, {high:.0f}]",
    ]
    if record["pixel_size_nm"]:
        lines.insert(-1, f"  pixel_size_nm: {record['pixel_size_nm']:g}")
    if record.get("figure"):
        lines.insert(0, f"picture: {record['figure']}")
    say: Callable[[str], None] = click.echo
    for line in lines:
        say(line)
    next_step("blinkloop", "prefit", "movie.tif", "-o", "recipe.yaml", "--psf", out)
