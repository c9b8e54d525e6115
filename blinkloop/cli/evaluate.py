"""`blinkloop evaluate`: accuracy of a model on simulated or given truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import (
    CameraFlags,
    FiniteRange,
    FrameSize,
    camera_options,
    json_option,
)
from blinkloop.cli._output import note, plain, print_json
from blinkloop.cli._try import next_is_to_try
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.metrics import Rules

__all__ = ["command"]

_RULE_FIELDS = {
    "photon_quantile": "photon_quantile",
    "border_nm": "border_nm",
    "tolerance_lateral_nm": "lateral_nm",
    "tolerance_axial_nm": "axial_nm",
    "matching": "matching",
}
"""Option -> field of `Rules`."""
_SIMULATION_ONLY = (
    "densities",
    "isolated",
    "sigma_repeats",
    "across_range",
    "psf",
    "psf_sigma_px",
    "astigmatism_nm",
    "camera_kind",
)


@click.command("evaluate", short_help="Measure the accuracy of a model.")
@click.argument("model")
@click.option("--density", default=0.5, show_default=True, help="Emitters per um^2.")
@click.option("--flux", default=3000.0, show_default=True, help="Photons per frame.")
@click.option(
    "--background", default=20.0, show_default=True, help="Photons per pixel."
)
@click.option("--on-time", default=3.0, show_default=True, help="Mean on-time, frames.")
@click.option("--frames", default=500, show_default=True, help="Length of the movie.")
@click.option(
    "--size",
    type=FrameSize(),
    default="64x64",
    show_default=True,
    help="Height x width, px.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
@click.option("--threshold", type=float, help="Detection threshold; default: card's.")
@click.option(
    "--densities",
    metavar="D,D,...",
    help="Evaluate at each of these densities too, e.g. 0,0.1,0.5,1,2,3.",
)
@click.option(
    "--isolated",
    is_flag=True,
    help="Compare isolated emitters (of --flux photons) with the Cramer-Rao bound.",
)
@click.option(
    "--emitters",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Isolated emitters.",
)
@click.option(
    "--sigma-repeats",
    type=click.IntRange(min=2),
    help="Draw the noise of 100 frames so often, and compare sigma with the RMSE of "
    "each emitter.",
)
@click.option(
    "--across-range",
    type=click.IntRange(min=1),
    metavar="N",
    help="Evaluate in N conditions drawn from the whole range of the card.",
)
@click.option(
    "--rules",
    type=click.Choice(["standard", "challenge"]),
    default="standard",
    show_default=True,
    help="What counts: all from 50 photons on, or the rules of the 2016 challenge.",
)
@click.option(
    "--photon-quantile",
    type=FiniteRange(0, 1, max_open=True),
    help="Share of the truth, the dimmest, that does not count.",
)
@click.option(
    "--border-nm", type=FiniteRange(min=0), help="Border left out of both sets."
)
@click.option(
    "--tolerance-lateral-nm",
    type=FiniteRange(min=0, min_open=True),
    help="Farthest pair laterally; default 250.",
)
@click.option(
    "--tolerance-axial-nm",
    type=FiniteRange(min=0, min_open=True),
    help="Farthest pair axially; default 500.",
)
@click.option(
    "--matching",
    type=click.Choice(["greedy", "hungarian"]),
    help="Closest pair first (default), or smallest total distance (needs scipy).",
)
@click.option(
    "--wobble", is_flag=True, help="Take off lateral shifts that depend on z alone."
)
@click.option(
    "--z-bins",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Slices of z in the tables by z.",
)
@click.option(
    "--psf",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PSF file of 'calibrate', if not beside the model.",
)
@click.option(
    "--psf-sigma-px", type=FiniteRange(min=0, min_open=True), help="Width in focus."
)
@click.option("--astigmatism-nm", type=FiniteRange(), help="Focus shift of x and y.")
@click.option(
    "--camera-kind",
    type=click.Choice(["ideal", "scmos", "emccd"]),
    help="Noise model of the simulated camera.",
)
@click.option(
    "--movie",
    type=click.Path(path_type=Path),
    help="Evaluate on this movie instead; needs --truth.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="True emitters of the movie (any table 'convert' reads).",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Draw figures into this folder, beside the JSON they are drawn from.",
)
@click.option(
    "--write-card",
    is_flag=True,
    help="Write the result into the model's card (needs the export extra).",
)
@camera_options
@json_option
def command(
    model: str,
    movie: Path | None,
    truth: Path | None,
    figures: Path | None,
    write_card: bool,
    camera_flags: CameraFlags,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure the accuracy of a MODEL, on a simulated movie or on given truth.

    Truth counts from 50 photons in the frame on, with its centre in the field. The
    camera options are those of the movie, or of the simulated camera in place of the
    card's.

    Example: blinkloop evaluate astigmatic --densities 0,0.5,1,2 --isolated
    """
    from blinkloop.cli._evaluation import Asked, evaluate_movie, evaluate_simulation

    if (movie is None) != (truth is None):
        raise InputError("--movie and --truth go together; give both or neither")
    height, width = given["size"]
    if given["camera_kind"]:
        facts = {**camera_flags.values, "kind": given["camera_kind"]}
        camera_flags = CameraFlags(camera_flags.file, facts)
    asked = Asked(
        settings={
            "density_per_um2": given["density"],
            "flux_photons": given["flux"],
            "background_photons": given["background"],
            "on_time_frames": given["on_time"],
            "frames": given["frames"],
            "height_px": height,
            "width_px": width,
            "seed": given["seed"],
        },
        rules=_rules(given),
        threshold=given["threshold"],
        z_bins=given["z_bins"],
        psf={
            "psf_file": given["psf"],
            "sigma0_px": given["psf_sigma_px"],
            "astigmatism_nm": given["astigmatism_nm"],
        },
        camera=camera_flags,
        densities=_densities(given["densities"]),
        emitters=given["emitters"] if given["isolated"] else 0,
        sigma_repeats=given["sigma_repeats"] or 0,
        across_range=given["across_range"] or 0,
    )
    path = resolve_model(model)
    if figures is not None:
        _check_folder(figures)
    if movie is not None and truth is not None:
        for name in _SIMULATION_ONLY:
            if given[name]:
                option = name.replace("_", "-")
                raise InputError(
                    f"--{option} belongs to a simulated movie; leave out --movie and "
                    f"--truth, or --{option}"
                )
        result = evaluate_movie(path, movie, truth, asked, given["seed"])
    else:
        result = evaluate_simulation(path, asked)
    if write_card:
        from blinkloop.evaluation import card_entry
        from blinkloop.export import update_card

        update_card(path, accuracy=plain(card_entry(result)))
        note(f"accuracy written into {path}")
    if figures is not None:
        _draw(result, figures)
    if as_json:
        print_json(result)
        return
    from blinkloop.cli._evaluation_show import show_evaluation

    show_evaluation(result)
    next_is_to_try(model, path)


def _rules(given: dict[str, Any]) -> Rules:
    from dataclasses import replace

    from blinkloop.metrics import RULES

    changed = {
        field: given[option]
        for option, field in _RULE_FIELDS.items()
        if given[option] is not None
    }
    if given["photon_quantile"]:
        # As in the challenge: what is at dim truth is neither right nor wrong.
        changed["forgive_dropped"] = True
    return replace(RULES[given["rules"]], wobble=given["wobble"], **changed)


def _densities(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--densities {text}: give numbers with commas between, e.g. 0.1,0.5,1,2"
        ) from error


def _check_folder(folder: Path) -> None:
    """Before the work: figures that cannot be written are worth nothing."""
    from blinkloop.extras import require

    require("matplotlib", "Drawing figures", "train")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder of the figures cannot be made "
            f"({error.strerror or error}); choose another"
        ) from error


def _draw(result: dict[str, Any], folder: Path) -> None:
    import json

    from blinkloop.evaluation.figures import draw_all

    record = plain(result)
    text = json.dumps(record, allow_nan=False, indent=1) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    names = []
    for name, figure in draw_all(record).items():
        figure.savefig(folder / f"{name}.png")
        names.append(name)
    note(f"{folder}: evaluation.json and {', '.join(names)} (.png)")
