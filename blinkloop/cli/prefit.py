"""`blinkloop prefit`: from a movie to the recipe of a network for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._options import CameraFlags, camera_options, json_option
from blinkloop.cli._output import next_step, note, print_json, print_table, warn
from blinkloop.errors import InputError
from blinkloop.extras import require

if TYPE_CHECKING:
    from blinkloop.camera_facts import ResolvedCamera
    from blinkloop.integrations.movies import Movie
    from blinkloop.psf_file import PsfCalibration
    from blinkloop.training import Recipe
    from blinkloop.training.prefit import Measured, Range

__all__ = ["command"]

_SAY_EVERY_S = 10.0
_HANG_ON = ("baseline_adu", "e_per_adu", "pixel_size_nm")


@click.command("prefit", short_help="Measure a movie and write a recipe for it.")
@click.argument("movie", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Recipe to write (.yaml).",
)
@click.option(
    "--psf",
    "psf_file",
    type=click.Path(path_type=Path),
    help="PSF of 'blinkloop calibrate'; default: a Gaussian whose width is measured.",
)
@click.option(
    "--from",
    "base",
    default="astigmatic",
    show_default=True,
    help="Recipe (file or bundled) for all that a movie does not tell.",
)
@click.option(
    "--frames",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Frames to read, in runs spread over the movie.",
)
@click.option("--overwrite", is_flag=True, help="Allow replacing OUT.")
@camera_options
@json_option
def command(
    movie: Path,
    out: Path,
    psf_file: Path | None,
    base: str,
    frames: int,
    overwrite: bool,
    camera_flags: CameraFlags,
    as_json: bool,
) -> None:
    """Measure photons, background, on-time and density of a MOVIE, into a recipe.

    Refuses with a reason when the movie tells too little.

    Example: blinkloop prefit movie.tif -o recipe.yaml --baseline 100 --e-per-adu 0.24
    """
    require("scipy", "Measuring a movie", "train")
    require("yaml", "Writing a recipe", "train")
    from blinkloop.integrations.movies import open_movie
    from blinkloop.optics import Camera
    from blinkloop.training.prefit import make_recipe, measure
    from blinkloop.training.recipes import load_recipe

    _check_out(out, overwrite)
    recipe = load_recipe(base)
    calibration = None if psf_file is None else _psf(psf_file)
    with open_movie(movie) as opened:
        camera = _camera(camera_flags, opened, recipe, calibration)
        note(camera.text)
        assumed = [name for name in _HANG_ON if camera.origin[name] == "recipe"]
        if assumed:
            warn(
                f"{', '.join(assumed)} taken from the recipe {recipe.name!r}, not from "
                f"this camera: photons and densities are only as good as these"
            )
        for line in opened.notes():
            note(line)
        measured = measure(
            _runs(opened, frames),
            Camera(camera.settings),
            psf=None if calibration is None else calibration.psf(),
            z_range_nm=None if calibration is None else calibration.z_range_nm,
            progress=_say_now_and_then(),
        )
    for line in measured.warnings:
        warn(line)
    made = make_recipe(
        recipe,
        measured,
        camera.settings,
        psf=None
        if calibration is None or psf_file is None
        else calibration.settings(psf_file).model_copy(
            update={"file": _seen_from(out.parent, psf_file)}
        ),
        name=out.stem,
        description=f"Measured by blinkloop prefit on {movie.name}: "
        f"{measured.frames} frames, {measured.fits} fits.",
    )
    made, changes = _with_room(made, calibration)
    for line in changes:
        note(line)
    try:
        made.save(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error
    if as_json:
        print_json(_record(measured, camera, made, out))
    else:
        _show(measured, made)
        click.echo(f"recipe -> {out}")
    # A network of that recipe knows most of it already.
    start = ("--from", base) if base in bundled_models() else ()
    next_step("blinkloop", "train", out, "-o", Path("runs") / out.stem, *start)


def _with_room(
    made: Recipe, calibration: PsfCalibration | None
) -> tuple[Recipe, list[str]]:
    """The recipe with room for the PSF, and what changed for it."""
    from blinkloop.psf_file import load_psf
    from blinkloop.training.wide_psf import extent_of, suited

    # A range of Gaussians has room for all of them already.
    if calibration is not None:
        extent = extent_of(calibration.psf(), calibration.z_range_nm)
    elif made.psf.kind == "gaussian":
        extent = extent_of(load_psf(made.psf), made.psf.z_range_nm)
    else:
        return made, []
    return suited(made, extent)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"{out}: a recipe is YAML; give a name that ends in .yaml")
    if out.exists() and not overwrite:
        raise InputError(
            f"{out} exists already; choose another name or give --overwrite"
        )
    if not out.parent.is_dir():
        raise InputError(
            f"{out}: the folder {out.parent} does not exist; make it first"
        )


def _psf(path: Path) -> PsfCalibration:
    from blinkloop.psf_file import read_psf

    require("h5py", "Reading PSF files", "io")
    calibration = read_psf(path)
    if calibration.em_mirrored:
        # Frames are what the camera gives; the file says they are mirrored in it.
        return calibration.mirrored()
    return calibration


def _seen_from(folder: Path, file: Path) -> str:
    """How a recipe in `folder` names a file, wherever it is trained from."""
    whole, base = file.resolve(), folder.resolve()
    if whole.is_relative_to(base):
        return whole.relative_to(base).as_posix()
    return str(whole)


def _camera(
    flags: CameraFlags,
    movie: Movie,
    recipe: Recipe,
    calibration: PsfCalibration | None,
) -> ResolvedCamera:
    """Camera facts: flags, camera file, the movie's metadata, the recipe's."""
    from dataclasses import replace

    from blinkloop.camera_facts import merge_camera, read_camera_file

    file = read_camera_file(flags.file) if flags.file else {}
    said = dict(flags.values)
    facts = {k: v for k, v in movie.facts().items() if v is not None}
    layers = [
        ("recipe", recipe.camera.model_dump()),
        ("movie", facts),
        ("camera file", file),
        ("flag", said),
    ]
    camera = merge_camera(layers)
    known = None if calibration is None else calibration.pixel_size_nm
    pixel = camera.settings.pixel_size_nm
    if known is not None and abs(known / pixel - 1) > 0.01:
        if camera.origin["pixel_size_nm"] == "recipe":
            return replace(
                camera,
                settings=camera.settings.model_copy(update={"pixel_size_nm": known}),
                origin={**camera.origin, "pixel_size_nm": "PSF file"},
            )
        raise InputError(
            f"the PSF was calibrated with pixels of {known:g} nm, but the movie's are "
            f"{pixel:g} nm; calibrate with beads recorded at that pixel size"
        )
    return camera


def _runs(movie: Movie, wanted: int) -> Iterator[Any]:
    """Stretches of the movie; one that is damaged ends at its last good frame."""
    from blinkloop.integrations.movies import MovieDamagedError
    from blinkloop.training.prefit import choose_runs

    for start, stop in choose_runs(movie.n_frames, movie.height, movie.width, wanted):
        try:
            yield movie.read(start, stop)
        except MovieDamagedError as error:
            warn(str(error))
            if error.readable - start >= 3:
                yield movie.read(start, error.readable)
            return
    if movie.damage is not None:
        warn(f"the movie is damaged: {movie.damage}; the frames before it were used")


def _say_now_and_then() -> Any:
    last = time.monotonic()

    def say(frames: int, spots: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAY_EVERY_S:
            last = time.monotonic()
            note(f"{frames} frames read, {spots} spots")

    return say


def _show(measured: Measured, recipe: Recipe) -> None:
    sample = recipe.sample
    rows = [
        _row("photons per frame", measured.photons, "emitters", sample.photons),
        [
            "their relative SD",
            measured.photons_relative_sd,
            None,
            f"{measured.photons.count} emitters",
            sample.photons_relative_sd,
        ],
        _row(
            "background, photons per px",
            measured.background,
            "fits",
            sample.background_photons,
        ),
        _row("on-time, frames", measured.on_time, "steps", sample.on_time_frames),
        _row(
            "density per um^2",
            measured.density_per_um2,
            "spots",
            sample.density_per_um2,
        ),
    ]
    width = measured.width
    if width is not None:
        psf = recipe.psf.model_dump()
        between = [width.low, width.high]
        many = f"{width.fits} fits"
        rows.append(
            ["PSF sigma in focus, px", width.sigma0_px, between, many, psf["sigma0_px"]]
        )
        shift = psf["astigmatism_nm"]
        rows.append(["astigmatism a / d", width.astigmatism, None, many, shift])
    title = (
        f"measured in {measured.frames} frames, {measured.candidates} spots, "
        f"{measured.fits} good fits of lone ones"
    )
    print_table(title, ["", "value", "95 % interval", "from", "recipe"], rows)


def _row(what: str, found: Range, of: str, recipe: tuple[float, float]) -> list[Any]:
    return [what, found.value, [found.low, found.high], f"{found.count} {of}", recipe]


def _record(
    measured: Measured, camera: ResolvedCamera, recipe: Recipe, out: Path
) -> dict[str, Any]:
    def both(name: str, found: Range) -> dict[str, Any]:
        between = [found.low, found.high]
        return {name: found.value, f"{name}_interval_95": between}

    width = measured.width
    return {
        "out": out,
        "frames": measured.frames,
        "spots": measured.candidates,
        "fits": measured.fits,
        **both("photons", measured.photons),
        "photons_relative_sd": measured.photons_relative_sd,
        **both("background_photons", measured.background),
        **both("on_time_frames", measured.on_time),
        **both("density_per_um2", measured.density_per_um2),
        "density_found_per_um2": measured.density_found_per_um2,
        "sigma0_px": None if width is None else width.sigma0_px,
        "astigmatism_over_depth": None if width is None else width.astigmatism,
        "noise_ratio": measured.noise_ratio,
        "warnings": list(measured.warnings),
        **camera.meta(),
        "recipe": recipe.model_dump(mode="json"),
    }
