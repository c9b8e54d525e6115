"""Picture of a PSF made from beads: slices beside a bead, fits, errors, bounds.

matplotlib is imported at the call and draws without a screen. Colours are of the
Okabe-Ito set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.extras import require
from blinkloop.training.calibration.bead_report import BeadCalibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration_figure"]

Floats = npt.NDArray[np.float64]

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
_COLUMNS = 7


def calibration_figure(result: BeadCalibration, *, title: str = "") -> Figure:
    """Draw a calibration from beads.

    Rows: the brightest bead, at its place a PSF without it (of one bead: without the
    slices shown), and their difference, at seven heights and from the side; fitted
    against stage height; errors; Cramer-Rao bounds; residuals, or the light of one
    bead.
    """
    require("matplotlib", "Drawing figures", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 12), dpi=110, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    above, below = parts
    figure.suptitle(title)
    _pictures(above, result)
    axes = below.subplots(2, 2)
    _heights(axes[0, 0], result)
    _errors(axes[0, 1], result)
    _bounds(axes[1, 0], result)
    _beads(axes[1, 1], result)
    return figure


def _pictures(figure: Any, result: BeadCalibration) -> None:
    example, pixel = result.example, result.calibration.pixel_size_nm or 1.0
    low, high = result.calibration.z_range_nm
    wanted = np.linspace(high, low, _COLUMNS)
    slices = [int(np.argmin(np.abs(example.z_nm - z))) for z in wanted]
    grid = figure.subplots(3, _COLUMNS + 1, width_ratios=[1] * _COLUMNS + [1.2])
    rows = (
        ("bead", example.data),
        ("PSF", example.drawn),
        ("bead - PSF", example.data - example.drawn),
    )
    middle = example.data.shape[1] // 2
    for row, (name, volume) in enumerate(rows):
        for column, k in enumerate(slices):
            axes = grid[row, column]
            _image(axes, volume[k], example.data[k], signed=row == 2)
            if row == 0:
                axes.set_title(f"{example.z_nm[k]:+.0f} nm", fontsize=9)
        grid[row, 0].set_ylabel(name)
        side = volume[:, middle - 1 : middle + 2].mean(1)
        like = example.data[:, middle - 1 : middle + 2].mean(1)
        axes = grid[row, -1]
        height = (example.z_nm[0] - example.z_nm[-1]) / 1000
        half = side.shape[1] * pixel / 2000
        extent = (
            -half,
            half,
            example.z_nm[-1] / 1000,
            example.z_nm[-1] / 1000 + height,
        )
        _image(axes, side, like, signed=row == 2, extent=extent, aspect="auto")
        axes.set_yticks([low / 1000, 0, high / 1000])
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        axes.set_ylabel("z, um", fontsize=8)
        axes.tick_params(labelsize=7)
    grid[0, -1].set_title("side view x, z", fontsize=9)


def _image(axes: Any, image: Floats, like: Floats, *, signed: bool, **how: Any) -> None:
    """Square-root brightness of light; differences in the colours of both signs."""
    top = max(float(like.max()), 1e-12)
    if signed:
        limit = 0.2 * top
        axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, **how)
        axes.set_xlabel("colours: +-20 % of the peak", fontsize=6)
    else:
        axes.imshow(
            np.sqrt(np.maximum(image, 0) / top), cmap="magma", vmin=0, vmax=1, **how
        )
    axes.set_xticks([])
    axes.set_yticks([])


def _heights(axes: Any, result: BeadCalibration) -> None:
    fits = result.refit
    axes.plot(fits.stage_nm, fits.z_nm, ".", color=_BLUE, ms=4, label="fitted slices")
    ends = np.array(result.calibration.z_range_nm)
    axes.plot(ends, ends, color=_GREY, lw=1, label="slope 1")
    axes.set(
        xlabel="height by the stage, nm",
        ylabel="fitted z, nm",
        title=f"slope {fits.slope:.3f}, RMSE {fits.rmse('z'):.1f} nm",
    )
    axes.legend(frameon=False)


def _errors(axes: Any, result: BeadCalibration) -> None:
    fits = result.refit
    for name, error, colour in (
        ("x", fits.dx_nm, _BLUE),
        ("y", fits.dy_nm, _ORANGE),
        ("z", fits.z_nm - fits.stage_nm, _GREEN),
    ):
        label = f"{name}: RMSE {fits.rmse(name):.1f} nm"
        axes.plot(fits.stage_nm, error, ".", color=colour, ms=4, label=label)
    errors = np.concatenate([fits.dx_nm, fits.dy_nm, fits.z_nm - fits.stage_nm])
    if len(errors):
        reach = 1.3 * float(np.quantile(np.abs(errors), 0.98)) + 1.0
        axes.set_ylim(-reach, reach)
    axes.axhline(0, color=_GREY, lw=1)
    axes.set(
        xlabel="height by the stage, nm",
        ylabel="error, nm",
        title="errors of the fitted beads",
    )
    axes.legend(frameon=False)


def _bounds(axes: Any, result: BeadCalibration) -> None:
    limits = result.bounds
    for name, values, colour in (
        ("x", limits.x_sd_nm, _BLUE),
        ("y", limits.y_sd_nm, _ORANGE),
        ("z", limits.z_sd_nm, _GREEN),
    ):
        axes.plot(limits.z_nm, values, color=colour, label=name)
    finite = np.concatenate([limits.x_sd_nm, limits.y_sd_nm, limits.z_sd_nm])
    finite = finite[np.isfinite(finite)]
    if len(finite):
        axes.set_ylim(0, 1.2 * float(np.quantile(finite, 0.97)))
    axes.set(
        xlabel="z, nm",
        ylabel="Cramer-Rao bound (SD), nm",
        title=f"{limits.photons:.0f} photons, background {limits.background:.0f}",
    )
    axes.legend(frameon=False)


def _beads(axes: Any, result: BeadCalibration) -> None:
    residuals = [100 * bead.residual for bead in result.used]
    if len(residuals) == 1:
        light = result.calibration.psf()
        z = result.bounds.z_nm
        zero = np.zeros(len(z))
        share = light.roi(zero, zero, z, zero + 1.0)[0].sum((1, 2))
        axes.plot(z, share, color=_BLUE)
        axes.set(xlabel="z, nm", ylabel="light in the window, focus = 1", title="light")
        axes.set_ylim(0, 1.1 * float(share.max()))
        return
    axes.bar(np.arange(len(residuals)), residuals, color=_BLUE)
    axes.set(
        xlabel="bead",
        ylabel="difference to the PSF, % (RMS)",
        title=f"{len(residuals)} beads used, {len(result.dropped)} dropped",
    )
