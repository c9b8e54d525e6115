"""Figures of an evaluation; one function per figure, drawn from the record alone.

The record is the JSON of `evaluate`, in which NaN has become None. matplotlib is
imported at the call and drawn without a screen. Colours are of the Okabe-Ito set, safe
for the colour-blind; axes also differ in their markers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "across_figure",
    "crlb_figure",
    "density_figure",
    "draw_all",
    "reliability_figure",
    "sigma_figure",
    "subpixel_figure",
    "z_figure",
    "z_score_figure",
]

Record = Mapping[str, Any]

_BLUE, _ORANGE, _GREEN, _PINK, _GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#666666",
)
_AXES = {"x": (_BLUE, "o"), "y": (_ORANGE, "s"), "z": (_GREEN, "^")}
"""Colour and marker of each axis."""
_TARGET_RATIO = 1.1


def draw_all(record: Record) -> dict[str, Figure]:
    """All figures that the record has the numbers for, by name."""
    rows: tuple[tuple[str, bool, Callable[[Record], Figure]], ...] = (
        ("by_z", bool(record.get("by_z")), z_figure),
        ("z_scores", bool(_pairs(record)), z_score_figure),
        ("sigma", _pairs(record) > 1, sigma_figure),
        ("reliability", "calibration" in record, reliability_figure),
        ("subpixel", "subpixel" in record, subpixel_figure),
        ("by_density", bool(record.get("by_density")), density_figure),
        ("crlb", "isolated" in record, crlb_figure),
        ("across_range", "across_range" in record, across_figure),
    )
    return {name: draw(record) for name, there, draw in rows if there}


def z_figure(record: Record) -> Figure:
    """Jaccard index and RMSE in slices of z."""
    figure, (above, below) = _figure(1, 2, title=_title(record))
    rows = record["by_z"]
    z = [(row["z_low_nm"] + row["z_high_nm"]) / 2 for row in rows]
    for name, colour, marker in (
        ("jaccard", _BLUE, "o"),
        ("recall", _ORANGE, "s"),
        ("precision", _GREEN, "^"),
    ):
        above.plot(z, _column(rows, name), color=colour, marker=marker, label=name)
    above.set(xlabel="z (nm)", ylabel="share", ylim=(0, 1.02))
    for name, colour, marker in (
        ("lateral", _BLUE, "o"),
        ("axial", _GREEN, "^"),
    ):
        values = _column(rows, f"rmse_{name}_nm")
        below.plot(z, values, color=colour, marker=marker, label=name)
    below.set(xlabel="z (nm)", ylabel="RMSE (nm)")
    below.set_ylim(bottom=0)
    return _finished(figure)


def z_score_figure(record: Record) -> Figure:
    """Errors divided by their predicted sigma, against a normal distribution."""
    found = record["calibration"]
    histogram, scores = found["z_score_histogram"], found["z_scores"]
    edges = np.array(histogram["edges"])
    centre, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    figure, (axes,) = _figure(1, 1, title=_title(record))
    normal = np.exp(-(centre**2) / 2) / math.sqrt(2 * math.pi)
    axes.fill_between(
        centre, normal, color=_GREY, alpha=0.25, lw=0, label="normal, SD 1"
    )
    for axis, row in scores.items():
        counts = np.array(histogram[axis], float)
        density = counts / max(counts.sum(), 1.0) / width
        said = f"{axis}: SD {_said(row['sd'])}, robust {_said(row['robust_sd'])}"
        axes.step(centre, density, where="mid", color=_AXES[axis][0], label=said)
    axes.set(xlabel="error / predicted sigma", ylabel="probability density")
    return _finished(figure)


def sigma_figure(record: Record) -> Figure:
    """RMSE of emitters against their predicted sigma, in groups of equal size."""
    found = record["calibration"]["sigma_correlation"]
    curve = found["curve"]
    figure, (axes,) = _figure(1, 1, title=_title(record))
    sigma, rmse = np.array(curve["sigma_nm"]), np.array(curve["rmse_nm"])
    ends = np.array([min(sigma.min(), rmse.min()), max(sigma.max(), rmse.max())])
    axes.plot(ends, ends, color=_GREY, ls="--", lw=1, label="equal")
    axes.plot(sigma, rmse, color=_BLUE, marker="o", label=f"n = {found['n']}")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="predicted sigma, all axes, RMS of the group (nm)",
        ylabel="RMSE, all axes (nm)",
    )
    _plain_log(axes)
    text = f"r per emitter {_said(found['per_emitter'])} "
    text += f"(at most {_said(found['ceiling'])})\nr of the groups "
    axes.text(
        0.97,
        0.04,
        text + _said(found["binned"]),
        transform=axes.transAxes,
        ha="right",
        fontsize=8,
    )
    return _finished(figure)


def reliability_figure(record: Record) -> Figure:
    """What scores and sums of p say, against what is true."""
    found = record["calibration"]
    figure, (left, right) = _figure(1, 2, title=_title(record))
    scores, blocks = found["scores"], found["blocks"]
    left.plot([0, 1], [0, 1], color=_GREY, ls="--", lw=1, label="equal")
    left.plot(
        scores["curve"]["score"],
        scores["curve"]["share"],
        color=_BLUE,
        marker="o",
        label=f"calibration error {_said(scores['ece'])}",
    )
    left.set(xlabel="score of the localization", ylabel="share that is real")
    left.set(xlim=(0, 1.02), ylim=(0, 1.02))
    expected = np.array(blocks["curve"]["expected"])
    true = np.array(blocks["curve"]["true"])
    top = max(expected.max(), true.max(), 0.1)
    right.plot([0, top], [0, top], color=_GREY, ls="--", lw=1, label="equal")
    right.plot(
        expected,
        true,
        color=_BLUE,
        marker="o",
        label=f"calibration error {_said(blocks['ece'])}",
    )
    right.set(xlabel="sum of p in 8 x 8 px", ylabel="true emitters in 8 x 8 px")
    return _finished(figure)


def subpixel_figure(record: Record) -> Figure:
    """Histogram of positions within the pixel."""
    figure, panels = _figure(1, 2, title=_title(record))
    for axes, (axis, row) in zip(panels, record["subpixel"].items(), strict=True):
        counts = np.array(row["counts"], float)
        centre = (np.arange(len(counts)) + 0.5) / len(counts) - 0.5
        mean = max(counts.mean(), 1e-9)
        axes.bar(centre, counts / mean, width=1 / len(counts), color=_AXES[axis][0])
        axes.axhline(1, color=_GREY, ls="--", lw=1)
        axes.set(
            xlabel=f"{axis} within the pixel (px)",
            ylabel="localizations / uniform",
            title=f"swing {_said(row['harmonic'])}, "
            f"beyond the truth's {_said(row['harmonic_excess'])}",
        )
        axes.title.set_fontsize(9)
    return _finished(figure, legend=False)


def density_figure(record: Record) -> Figure:
    """Accuracy, errors and estimated density over the true density."""
    rows = record["by_density"]
    figure, (first, second, third) = _figure(1, 3, title=_title(record, density=False))
    true = np.array([row["density"]["true_per_um2"] for row in rows])
    for name, colour, marker in (
        ("jaccard", _BLUE, "o"),
        ("efficiency_volume", _ORANGE, "s"),
    ):
        label = name.replace("_", ", ")
        first.plot(true, _column(rows, name), color=colour, marker=marker, label=label)
    first.set(ylabel="share", ylim=(min(0, _low(rows)), 1.02))
    for name, colour, marker in (("lateral", _BLUE, "o"), ("axial", _GREEN, "^")):
        values = _column(rows, f"rmse_{name}_nm")
        second.plot(true, values, color=colour, marker=marker, label=name)
    second.set(ylabel="RMSE (nm)")
    second.set_ylim(bottom=0)
    biases = np.array([row["density"]["bias_per_um2"] for row in rows])
    third.axhspan(-5, 5, color=_GREEN, alpha=0.15, lw=0, label="within 5 %")
    third.axhline(0, color=_GREY, ls="--", lw=1)
    there = true > 0
    percent = 100 * biases[there] / true[there]
    third.plot(true[there], percent, color=_BLUE, marker="o", label="bias")
    coverage = [row["density"]["coverage"] for row in rows]
    for x, y, covered in zip(
        true[there], percent, np.array(coverage)[there], strict=True
    ):
        third.annotate(
            f"{100 * covered:.0f} %",
            (x, y),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize=7,
        )
    third.set(ylabel="bias of the density (%); coverage noted")
    for axes in (first, second, third):
        axes.set(xlabel="true density (per µm²)")
    return _finished(figure)


def crlb_figure(record: Record) -> Figure:
    """RMSE of isolated emitters divided by the bound, by z; and the RMSE itself."""
    part = record["isolated"]
    settings = part["settings"]
    title = (
        f"{record['model']}: {settings['emitters']} isolated emitters, "
        f"{settings['photons']:g} photons, "
        f"background {settings['background_photons']:g}"
    )
    figure, (left, right) = _figure(1, 2, title=title)
    found = part["single"]
    rows = found.get("by_z") or [{**found, "z_low_nm": 0.0, "z_high_nm": 0.0}]
    z = [(row["z_low_nm"] + row["z_high_nm"]) / 2 for row in rows]
    for axis, (colour, marker) in _AXES.items():
        if axis not in found or found[axis]["ratio"] is None:
            continue
        ratios = _column([row[axis] for row in rows], "ratio")
        ends = np.array([_pair(row[axis]["interval_95"]) for row in rows])
        error = np.abs(ends.T - ratios)
        left.errorbar(
            z,
            ratios,
            yerr=error,
            color=colour,
            marker=marker,
            capsize=2,
            label=f"{axis}: {_said(found[axis]['ratio'])} over all z",
        )
        rmse = _column([row[axis] for row in rows], "rmse")
        bound = _column([row[axis] for row in rows], "bound")
        right.plot(z, rmse, color=colour, marker=marker, label=f"{axis}, RMSE")
        right.plot(z, bound, color=colour, ls="--", lw=1, label=f"{axis}, bound")
    left.axhline(1, color=_GREY, ls="--", lw=1)
    left.axhline(_TARGET_RATIO, color=_GREY, ls=":", lw=1)
    left.set(xlabel="z (nm)", ylabel="RMSE / square root of the bound")
    right.set(xlabel="z (nm)", ylabel="RMSE (nm)")
    right.set_ylim(bottom=0)
    for axes in (left, right):  # room for the legend
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))
    return _finished(figure)


def across_figure(record: Record) -> Figure:
    """Accuracy in conditions drawn from the card's range."""
    part = record["across_range"]
    rows = part["drawn"]
    title = f"{record['model']}: {part['conditions']} conditions of the card's range"
    figure, (first, second, third) = _figure(1, 3, title=title)
    density = _column(rows, "density_per_um2")
    noise = np.log10(_column(rows, "photons"))
    for axes, name, label in (
        (first, "jaccard", "Jaccard index"),
        (second, "rmse_lateral_nm", "lateral RMSE (nm)"),
    ):
        drawn = axes.scatter(
            density, _column(rows, name), c=noise, cmap="cividis", s=14
        )
        axes.set(ylabel=label)
    first.set_ylim(0, 1.02)
    second.set_ylim(bottom=0)
    bias = 100 * _column(rows, "density_bias")
    drawn = third.scatter(density, bias, c=noise, cmap="cividis", s=14)
    third.axhline(0, color=_GREY, ls="--", lw=1)
    third.set(ylabel="bias of the density (%)")
    for axes in (first, second, third):
        axes.set(xscale="log", xlabel="density (per µm²)")
    figure.colorbar(drawn, ax=third, label="log10 photons per frame")
    return _finished(figure, legend=False)


def _figure(rows: int, columns: int, *, title: str) -> tuple[Figure, list[Axes]]:
    require("matplotlib", "Drawing figures", "train")
    from matplotlib.figure import Figure

    width = 4.2 * columns if columns > 1 else 5.0
    figure = Figure(layout="constrained", figsize=(width, 3.8 * rows), dpi=130)
    figure.suptitle(title, fontsize=10)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).ravel())


def _finished(figure: Figure, *, legend: bool = True) -> Figure:
    for axes in figure.axes:
        if legend and axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8, ncols=_columns(axes))
        if axes.get_label() != "<colorbar>":
            axes.spines[["top", "right"]].set_visible(False)
    return figure


def _columns(axes: Axes) -> int:
    return 2 if len(axes.get_legend_handles_labels()[1]) > 4 else 1


def _plain_log(axes: Axes) -> None:
    """Nanometres as people write them, not as powers of ten."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(LogLocator(subs=()))


def _title(record: Record, *, density: bool = True) -> str:
    if "settings" not in record:
        return str(record["model"])
    s = record["settings"]
    parts = [f"{s['density_per_um2']:g} per µm²"] if density else []
    parts += [f"{s['flux_photons']:g} photons"]
    parts += [f"background {s['background_photons']:g}"]
    return f"{record['model']}: {', '.join(parts)}"


def _column(rows: list[Any], name: str) -> npt.NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)  # None becomes NaN


def _low(rows: list[Any]) -> float:
    values = _column(rows, "efficiency_volume")
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else 0.0


def _pair(interval: Any) -> tuple[float, float]:
    low, high = (math.nan if end is None else float(end) for end in interval)
    return low, high


def _pairs(record: Record) -> int:
    if "calibration" not in record:
        return 0
    return int(record["calibration"]["sigma_correlation"]["n"])


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
