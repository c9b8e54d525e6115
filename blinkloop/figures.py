"""Figures of a run; one function per figure, returning the figure.

matplotlib is imported at the call and drawn without a screen (a `Figure` of its own,
never pyplot). Colours are of the Okabe-Ito set, safe for the colour-blind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["density_figure", "reconstruction_figure"]

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
_BAND = 0.15


def _new_figure(**settings: Any) -> Figure:
    require("matplotlib", "Drawing figures", "demo")
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **settings)


def density_figure(
    history: Mapping[str, npt.NDArray[np.float64]],
    *,
    true_density_per_um2: npt.NDArray[np.float64] | None = None,
    power_unit: str = "mW",
    title: str = "",
) -> Figure:
    """Density of active emitters above, activation laser below, over time.

    Parameters
    ----------
    history
        From `FeedbackLoop.history()`: `time_s`, `density_per_um2`,
        `smoothed_per_um2`, `smoothed_sd_per_um2`, `target_per_um2`, `power`; (n,) each.
    true_density_per_um2
        (n,) of a virtual sample, drawn behind the estimate.
    power_unit
        Unit of the laser's property.
    """
    figure = _new_figure(figsize=(7.5, 5.0), dpi=130)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    time_s = history["time_s"]
    if true_density_per_um2 is not None:
        above.plot(
            time_s,
            _running_mean(true_density_per_um2, 25),
            color=_GREY,
            lw=1.0,
            label="truth (mean of 25 frames)",
        )
    smoothed, sd = history["smoothed_per_um2"], history["smoothed_sd_per_um2"]
    above.fill_between(
        time_s, smoothed - 2 * sd, smoothed + 2 * sd, color=_BLUE, alpha=0.2, lw=0
    )
    above.plot(time_s, smoothed, color=_BLUE, lw=1.5, label="estimate (mean, ±2 SD)")
    target = history["target_per_um2"]
    above.plot(time_s, target, color=_GREEN, ls="--", lw=1.2, label="target ±15 %")
    above.fill_between(
        time_s,
        target * (1 - _BAND),
        target * (1 + _BAND),
        color=_GREEN,
        alpha=0.12,
        lw=0,
    )
    above.set_ylabel("active emitters per µm²")
    above.set_ylim(bottom=0)
    above.legend(loc="best", frameon=False, fontsize=8)
    above.set_title(title, fontsize=10)
    below.plot(time_s, history["power"], color=_ORANGE, lw=1.5, drawstyle="steps-post")
    below.set_ylabel(f"activation laser ({power_unit})")
    below.set_xlabel("time (s)")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def reconstruction_figure(
    panels: Mapping[str, npt.NDArray[np.floating]],
    *,
    pixel_nm: float,
    bar_nm: float = 1000.0,
) -> Figure:
    """Rendered pictures side by side, with one scale bar.

    Parameters
    ----------
    panels
        Title -> (H, W) picture; each is scaled to its own 99.5 % quantile.
    pixel_nm
        Pixel of the pictures.
    bar_nm
        Length of the scale bar.
    """
    first = next(iter(panels.values()))
    aspect = first.shape[0] / first.shape[1]
    width = 5.0 * len(panels)
    figure = _new_figure(figsize=(width, 5.0 * aspect + 0.4), dpi=130)
    figure.set_facecolor("black")
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (title, picture) in zip(all_axes, panels.items(), strict=True):
        lit = picture[picture > 0]
        top = float(np.quantile(lit, 0.97)) if lit.size else 1.0
        axes.imshow(picture, cmap="inferno", vmin=0, vmax=top, interpolation="nearest")
        axes.set_title(title, color="white", fontsize=10)
        axes.set_axis_off()
    height, columns = first.shape
    end = columns * 0.96
    all_axes[-1].plot(
        [end - bar_nm / pixel_nm, end], [height * 0.96] * 2, color="white", lw=3
    )
    all_axes[-1].text(
        end - bar_nm / pixel_nm / 2,
        height * 0.94,
        f"{bar_nm / 1000:g} µm",
        color="white",
        ha="center",
        va="bottom",
        fontsize=9,
    )
    return figure


def _running_mean(
    values: npt.NDArray[np.float64], span: int
) -> npt.NDArray[np.float64]:
    """Mean of the last `span` values (fewer at the start)."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index = np.arange(1, len(values) + 1)
    first = np.maximum(index - span, 0)
    result: npt.NDArray[np.float64] = (total[index] - total[first]) / (index - first)
    return result
