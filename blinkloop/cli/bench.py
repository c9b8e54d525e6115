"""`blinkloop bench`: how fast each backend runs a model on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click

from blinkloop.cli._options import FiniteRange, FrameSize, json_option, model_option
from blinkloop.cli._output import next_step, note, print_json, print_table, warn
from blinkloop.cli._try import next_is_to_try
from blinkloop.errors import InputError
from blinkloop.extras import installed

__all__ = ["command"]

_REFERENCE = "onnxruntime-cpu"


def _sizes(
    ctx: click.Context, param: click.Parameter, value: str
) -> tuple[tuple[int, int], ...]:
    """((height, width), ...) of "HxW,HxW"."""
    return tuple(FrameSize().convert(text, param, ctx) for text in value.split(","))


def _counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers above 0 of "N,N,..."."""
    texts = value.split(",")
    if not all(text.isdecimal() and int(text) > 0 for text in texts):
        raise click.BadParameter(
            f"{value!r} is not a list of numbers above 0, such as 1,8,32"
        )
    return tuple(int(text) for text in texts)


@click.command("bench", short_help="Measure how fast each backend runs a model.")
@model_option()
@click.option(
    "--size",
    "sizes",
    callback=_sizes,
    metavar="HxW,...",
    default="256x256",
    show_default=True,
    help="Height x width of the frames in px; several with commas.",
)
@click.option(
    "--frames-per-call",
    "counts",
    callback=_counts,
    metavar="N,...",
    default="1",
    show_default=True,
    help="Frames handed over at once: 1 as in a live run; several with commas.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    default=("all",),
    help="Backend, or all that work here (default); may be repeated.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "bf16"]),
    multiple=True,
    default=("fp32",),
    help="Arithmetic to measure (default fp32); may be repeated.",
)
@click.option(
    "--seconds",
    type=FiniteRange(min=0.01),
    default=3.0,
    show_default=True,
    help="Time to measure each row for.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of one call; default: all."
)
@click.option(
    "--torch/--no-torch",
    "with_torch",
    default=True,
    show_default=True,
    help="Compare with PyTorch's three-frame pass, where it is installed.",
)
@click.option("--compile", "compiled", is_flag=True, help="And with torch.compile.")
@click.option(
    "--choose",
    is_flag=True,
    help="Keep the result for 'auto', and race once more as live runs would.",
)
@json_option
def command(
    model: Path,
    sizes: tuple[tuple[int, int], ...],
    counts: tuple[int, ...],
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    seconds: float,
    threads: int | None,
    with_torch: bool,
    compiled: bool,
    choose: bool,
    as_json: bool,
) -> int:
    """Measure frames/s, latency and memory of a model on every backend here.

    Each backend runs in a process of its own, and they take turns.

    Example: blinkloop bench -m astigmatic --size 256x256
    """
    from blinkloop.cli._bench_race import race, rows_of

    names = _contestants(model, backends, precisions)
    problems: dict[str, str] = {}
    passed = _passed(model, names, problems) if choose else {}
    missing = _no_torch(model) if with_torch else ""
    if missing and not as_json:
        note(f"no comparison with PyTorch: {missing}")
    if with_torch and not missing:
        names += ["pytorch-eager", *(["pytorch-compile"] if compiled else [])]
    rows: list[dict[str, Any]] = []
    for (height, width), count in product(sizes, counts):
        case = {"height": height, "width": width, "frames_per_call": count}
        done = race(names, model, case, threads=threads, seconds=seconds)
        rows += rows_of(done, case)
        problems |= {one.name: one.problem for one in done if one.problem}
    if as_json:
        print_json(rows)
    else:
        _show(model, rows)
    for name, problem in problems.items():
        warn(f"{name}: {problem}")
    if choose:
        _keep(model, rows, passed)
        _keep_live(model, sizes, passed)
    if not as_json:
        if choose:
            next_is_to_try(model, model)
        else:
            next_step("blinkloop", "bench", "-m", model, "--choose")
    return 1 if problems or not rows else 0


def _no_torch(model: Path) -> str:
    """Why there is no comparison with PyTorch; empty when there is one."""
    from blinkloop.engine_file import is_engine_file
    from blinkloop.runtime import read_model

    if not (installed("torch") and installed("onnx")):
        return "it is not installed"
    if is_engine_file(model):
        return "an engine holds no weights for it"
    name = read_model(model).card.precision_name
    return "" if name == "fp32" else f"an {name} model holds no weights for it"


def _contestants(
    model: Path, backends: Sequence[str], precisions: Sequence[str]
) -> list[str]:
    """Names of the backends to measure; refuses early what cannot be."""
    from blinkloop.runtime import read_model
    from blinkloop.runtime.backends import usable_backends, variants_of

    file = read_model(model)
    asked = list(dict.fromkeys(backends))
    if "all" in asked:
        asked = usable_backends(file)
    names = []
    for name in asked:
        usable_backends(file, name)  # raises when it cannot be used
        if "fp32" in precisions or ":" in name:
            names.append(name)
        if "bf16" in precisions and "bf16" in variants_of(name):
            names.append(f"{name}:bf16")
    if not names:
        raise InputError(
            f"no backend here can be measured in {' or '.join(precisions)}; only "
            f"openvino computes in bf16; see: blinkloop doctor"
        )
    return names


def _passed(
    model: Path, names: Sequence[str], problems: dict[str, str]
) -> dict[str, bool]:
    """Backend -> whether it agrees with the reference backend."""
    from blinkloop.runtime import create_backend, make_camera_maps, read_model
    from blinkloop.runtime.benchmarking import Case, agreement_problem, make_frames

    file = read_model(model)
    camera = make_camera_maps(file.card.camera)
    reference = create_backend(_REFERENCE, file, camera)
    frames = make_frames(file.card, Case(41, 53, 5))
    # A few pixels far above the noise, so that there is something to detect.
    frames[:, 7::11, 5::13] += frames.max()
    passed = {}
    for name in names:
        backend = create_backend(name, file, camera)
        problem = agreement_problem(backend, reference, file.card, frames)
        backend.close()
        passed[name] = not problem
        if problem:
            problems[name] = f"does not agree with {_REFERENCE}: {problem}"
    reference.close()
    return passed


def _keep(
    model: Path, rows: Sequence[Mapping[str, Any]], passed: Mapping[str, bool]
) -> None:
    from blinkloop.runtime import read_model
    from blinkloop.runtime.benchmarking import backend_notes, remember_backends

    file = read_model(model)
    first = rows[0] if rows else {}
    keys = ("height", "width", "frames_per_call")
    speeds = {
        row["backend"]: row["frames_per_second"]
        for row in rows
        if row["backend"] in passed
        and row["precision"] != "bf16"
        and all(row[key] == first[key] for key in keys)
    }
    kept = remember_backends(
        file,
        passed=passed,
        frames_per_second=speeds,
        size=(first["height"], first["width"]) if first else None,
        frames_per_call=first.get("frames_per_call"),
    )
    if kept is None:
        warn("the choice could not be kept: neither the model's folder nor the cache")
        return
    fastest = backend_notes(file).fastest(speeds)
    note(f"auto now takes {fastest or 'the first of the table'} (kept in {kept})")


def _keep_live(
    model: Path, sizes: Sequence[tuple[int, int]], passed: Mapping[str, bool]
) -> None:
    """Race as live runs use the backends: single frames, a core left free."""
    from blinkloop.cli._live_backend import describe, live_threads, race_live
    from blinkloop.runtime import read_model
    from blinkloop.runtime.backends import usable_backends

    file = read_model(model)
    named = [name for name in usable_backends(file) if passed.get(name, False)]
    for size in sizes if named else ():
        race = race_live(file, size, live_threads(), named)
        if chosen := race.best(named):
            note(f"live runs take {describe(race, chosen)}")


def _show(model: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    heads = ["backend", "precision", "size", "frames/call", "frames/s", "Mpx/s"]
    heads += ["p50 ms", "p95 ms", "p99 ms", "max ms", "peak MB", "x PyTorch eager"]
    cells = [
        [
            row["backend"],
            row["precision"],
            f"{row['height']}x{row['width']}",
            row["frames_per_call"],
            row["frames_per_second"],
            row["megapixels_per_second"],
            *(float(row["latency_ms"][key]) for key in ("p50", "p95", "p99", "max")),
            row["peak_rss_mb"],
            row["times_pytorch_eager"],
        ]
        for row in rows
    ]
    print_table(f"{model.name}: time of one call", heads, cells)
