"""Write a model file in fewer bits, and only after its loss has been measured.

The source is an fp32 model file. The converted one carries in its card what it was made
from, which parts stayed in float, and what it loses on simulated movies; one that loses
more than the limits is not written unless that is asked for (docs/precision.md).
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export.graph import graph_problems
from blinkloop.export.model_file import load_model, replacing
from blinkloop.export.precision_emulated import with_roundings
from blinkloop.export.precision_fp16 import to_fp16
from blinkloop.export.precision_graph import graph_sha256
from blinkloop.export.precision_int8 import to_int8
from blinkloop.export.renew import from_int8, renew
from blinkloop.export.verify import verify
from blinkloop.export.verify_converted import conversion_tolerances
from blinkloop.export.verify_frames import (
    calibration_feeds,
    condition_beside,
    loss_movies,
    ordinary,
)
from blinkloop.export.verify_loss import broken_limits, measure_loss
from blinkloop.extras import require
from blinkloop.schema import (
    CARD_KEY,
    PRECISIONS,
    LossLimits,
    ModelCard,
    Precision,
    PrecisionLoss,
)

__all__ = ["convert"]

_BACKEND = "onnxruntime-cpu"
_FRAMES = 100
_IN_FLOAT = {
    "int8": ", or one with its rounded weights, which --precision fp32 makes",
    "fp16": "",
}


def convert(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    precision: str,
    *,
    limits: LossLimits | None = None,
    allow_loss: bool = False,
    seed: int = 0,
    frames: int = _FRAMES,
    psf_folder: str | os.PathLike[str] | None = None,
) -> ModelCard:
    """Write a model file in another precision.

    Parameters
    ----------
    source
        Model file in fp32; for `precision` "fp32" also one in int8.
    path
        File to write; an existing one is replaced when all checks have passed.
    precision
        "fp16" or "int8"; "fp32" exports the weights again, also the rounded ones of an
        int8 file (`renew.from_int8`).
    limits
        What may be lost; default: `LossLimits()`.
    allow_loss
        Write the file although more is lost; its card says so.
    seed
        Of the movies.
    frames
        Of each movie that the loss is measured on.
    psf_folder
        Where to look for the file of a measured PSF, beside the folder of `source`.

    Returns
    -------
    The card as written, with the entry `precision`.

    Raises
    ------
    CheckFailedError
        More is lost than the limits allow, or the graph does not run as written.
    InputError
        A file that cannot be used, is converted already, or whose PSF is not there.
    MissingExtraError
        onnx or onnxruntime is not installed.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"there is no precision {precision!r}; known: {', '.join(PRECISIONS)}"
        )
    file, target, chosen = Path(source), Path(path), limits or LossLimits()
    model, card = load_model(file)
    if precision == "fp32":
        if card.precision_name == "int8":
            name = _name_of(card, "fp32", target.stem)
            return from_int8(file, target, name=name)
        return renew(file, target)
    require("onnxruntime", "Converting a model", "cpu")
    if card.precision is not None:
        raise InputError(
            f"{file}: is converted to {card.precision.name} already; give the fp32 "
            f"model it was made from{_IN_FLOAT[card.precision.name]}"
        )
    folders = [file.parent, *([] if psf_folder is None else [Path(psf_folder)])]
    condition = condition_beside(card, folders)
    feeds = calibration_feeds(card, condition, seed=seed)
    if precision == "int8":
        clamp = card.architecture.logit_clamp
        converted, floats = to_int8(model, feeds, logit_clamp=clamp)
    else:
        converted, floats = to_fp16(model, feeds)
    photons, background = ordinary(card)
    entry: dict[str, Any] = {
        "name": precision,
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "graph_sha256": graph_sha256(converted),
        "kept_float": floats,
        "seed": seed,
        "photons": photons,
        "background_photons": background,
        "limits": chosen,
        "loss": (),
    }
    tolerances = conversion_tolerances(model, converted, card, precision=precision)
    card = card.model_copy(update={"tolerances": tolerances})
    card = _converted_card(card, Precision(**entry), target.stem)
    with replacing(target) as temporary:
        _write(converted, card, temporary)
        _check(converted, card, temporary, target)
        movies = loss_movies(card, condition, seed=seed, frames=frames)
        with tempfile.TemporaryDirectory() as scratch:
            rounded = Path(scratch) / target.name
            _write(with_roundings(converted), card, rounded)
            loss = measure_loss(file, rounded, movies, condition)
        broken = broken_limits(loss, chosen)
        if broken and not (allow_loss and _finite(loss)):
            raise CheckFailedError(
                f"{card.name} loses more than it may: {'; '.join(broken)} (allowed: "
                f"{chosen.jaccard_points:g} points of Jaccard, "
                f"{chosen.rmse_percent:g} % of RMSE, {chosen.density_points:g} points "
                f"of density); {target} was not written; --allow-loss writes it anyway"
            )
        entry |= {"loss": loss, "beyond_limits": bool(broken)}
        card = card.model_copy(update={"precision": Precision(**entry)})
        _write(converted, card, temporary)
    return card


def _converted_card(card: ModelCard, entry: Precision, stem: str) -> ModelCard:
    """The card of a converted file; its name tells the two apart.

    `stem` is the file's own name, and the model's where it says of which it is.
    """
    # What fp32 answered, and how accurate it was, is not true of this file.
    provenance = {k: v for k, v in card.provenance.items() if k != "record"}
    return card.model_copy(
        update={
            "name": _name_of(card, entry.name, stem),
            "precision": entry,
            "accuracy": {},
            "provenance": provenance,
        }
    )


def _name_of(card: ModelCard, precision: str, stem: str) -> str:
    return stem if stem.startswith(f"{card.name}-") else f"{card.name}-{precision}"


def _write(model: Any, card: ModelCard, path: Path) -> None:
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.to_json()
    path.write_bytes(model.SerializeToString())


def _check(model: Any, card: ModelCard, written: Path, target: Path) -> None:
    """The graph keeps the contract and runs as it is written."""
    problems = graph_problems(model, card, set())
    if not problems:
        rows = verify(written, [_BACKEND])
        problems += [f"{row.backend}: {row.problem}" for row in rows if row.problem]
    if problems:
        raise CheckFailedError(
            f"{card.name}: the converted graph is not right: {'; '.join(problems)}; "
            f"{target} was not written"
        )


def _finite(loss: tuple[PrecisionLoss, ...]) -> bool:
    """Whether there is a number for everything: a card holds no others."""
    numbers: list[float] = []
    for row in loss:
        numbers += [row.jaccard_points, row.rmse_lateral_percent]
        numbers += [row.rmse_axial_percent or 0.0, *row.rmse_all_percent]
        numbers += row.density_bias_percent
        for pair in row.z_score_sd.values():
            numbers += pair
    return all(math.isfinite(number) for number in numbers)
