"""Isolated emitters against the Cramer-Rao lower bound.

Emitters stand on a grid so wide that their windows do not overlap, with random offsets
(over four pixels, a whole period of the network's strides) and z uniform over the
range. Two movies are made of the same emitters:

* `single`: on in one frame, the frames before and after are empty;
* `persistent`: on with the same photons in three frames, the middle one counts.

The bound is that of a single frame in both, so `persistent` may come below 1: the
network sees the same emitter three times.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blinkloop.evaluation.bounds import bounds_nm2, reach_px
from blinkloop.evaluation.condition import Condition
from blinkloop.evaluation.movie import Localize
from blinkloop.evaluation.settings import IsolatedSettings
from blinkloop.metrics import (
    bound_ratio,
    errors_and_sigmas_nm,
    pair_tables,
    subpixel,
    z_scores,
)
from blinkloop.schema import EMITTER_DTYPE

__all__ = ["IsolatedMovie", "isolated_movie", "measure_isolated"]

Table = npt.NDArray[np.void]

Mode = Literal["single", "persistent"]
_MODES: tuple[Mode, ...] = ("single", "persistent")
_LEAST_SPACING_PX = 24
_OFFSET_PX = 2.0
_STREAM = 3
_FRAMES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class IsolatedMovie:
    """A movie of isolated emitters.

    Parameters
    ----------
    frames_adu
        (T, H, W) uint16.
    truth
        The emitters that count, in the frames that count.
    """

    frames_adu: npt.NDArray[np.uint16]
    truth: Table


def isolated_movie(
    condition: Condition, settings: IsolatedSettings, mode: Mode
) -> IsolatedMovie:
    """Draw the movie of a mode; the emitters are the same in both."""
    spacing = max(_LEAST_SPACING_PX, 2 * reach_px(condition) + 1)
    side = max(1, settings.frame_px // spacing)
    columns = min(side, math.ceil(math.sqrt(settings.emitters)))
    rows = min(side, math.ceil(settings.emitters / columns))
    per_frame = rows * columns
    sets = math.ceil(settings.emitters / per_frame)
    rng = np.random.default_rng([settings.seed, _STREAM])
    n = settings.emitters
    truth = np.zeros(n, EMITTER_DTYPE)
    group, place = np.divmod(np.arange(n), per_frame)
    row, column = np.divmod(place, columns)
    truth["id"] = np.arange(n)
    for name, number in (("x_px", column), ("y_px", row)):
        centre = (number + 0.5) * spacing - 0.5
        truth[name] = centre + rng.uniform(-_OFFSET_PX, _OFFSET_PX, n)
    truth["z_nm"] = rng.uniform(*condition.z_range_nm, n)
    truth["photons"] = settings.photons
    truth["background_photons"] = settings.background_photons
    beside: tuple[int, ...]
    if mode == "single":
        # Empty, set, empty, set, ..., empty: the network sees one frame on either side.
        truth["frame"], n_frames, beside = 2 * group + 1, 2 * sets + 1, (0,)
    else:
        truth["frame"], n_frames, beside = 3 * group + 1, 3 * sets, (-1, 0, 1)
    light = np.concatenate([truth] * len(beside))
    light["frame"] += np.repeat(beside, n)
    shape = (n_frames, rows * spacing, columns * spacing)
    noise_rng = np.random.default_rng([settings.seed, _STREAM, _MODES.index(mode)])
    return IsolatedMovie(_frames(light, condition, settings, shape, noise_rng), truth)


def _frames(
    light: Table,
    condition: Condition,
    settings: IsolatedSettings,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    frames = np.empty(shape, np.uint16)
    for first in range(0, shape[0], _FRAMES_AT_ONCE):
        count = min(_FRAMES_AT_ONCE, shape[0] - first)
        part = light[(light["frame"] >= first) & (light["frame"] < first + count)]
        expected = condition.psf.render(
            part["x_px"].astype(np.float32),
            part["y_px"].astype(np.float32),
            part["z_nm"],
            part["photons"],
            part["frame"] - first,
            count,
            *shape[1:],
        )
        expected = np.maximum(expected, 0.0) + np.float32(settings.background_photons)
        frames[first : first + count] = condition.noise.forward(expected, rng)
    return frames


def measure_isolated(
    condition: Condition,
    settings: IsolatedSettings,
    localize: Localize,
    *,
    threshold: float,
    three_dimensional: bool,
    z_edges_nm: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """RMSE / CRLB, bias, detection rate and sub-pixel test of isolated emitters.

    Parameters
    ----------
    condition
        Microscope.
    settings
        Emitters.
    localize
        The network.
    threshold
        Score that a localization must reach.
    three_dimensional
        Whether z counts.
    z_edges_nm
        Slices of z; None: no table by z.

    Returns
    -------
    dict
        `settings`, and for `single` and `persistent`: `n`, `n_found`,
        `detection_rate`, `false_per_frame`, per axis the keys of `bound_ratio`,
        `z_scores`, `subpixel` and `by_z`.
    """
    result: dict[str, Any] = {"settings": settings.model_dump()}
    for mode in _MODES:
        movie = isolated_movie(condition, settings, mode)
        found = localize(movie.frames_adu, condition.camera).above(threshold)
        at_middle = np.isin(found.table["frame"], movie.truth["frame"])
        result[mode] = _compare(
            movie.truth,
            found.table[at_middle],
            condition,
            three_dimensional,
            z_edges_nm,
            np.random.default_rng([settings.seed, _STREAM, 9]),
        )
        result[mode]["seconds"] = found.seconds
    return result


def _compare(
    truth: Table,
    table: Table,
    condition: Condition,
    three_dimensional: bool,
    z_edges_nm: tuple[float, ...] | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    paired = pair_tables(
        truth,
        table,
        condition.pixel_size_nm,
        min_photons=0.0,
        three_dimensional=three_dimensional,
    )
    pairs = paired.matching
    at, seen = truth[pairs.truth_index], table[pairs.predicted_index]
    error = (
        paired.predicted_nm[pairs.predicted_index] - paired.truth_nm[pairs.truth_index]
    )
    bound = bounds_nm2(at, condition, three_dimensional=three_dimensional)
    result: dict[str, Any] = {
        "n": len(truth),
        "n_found": pairs.true_positives,
        "detection_rate": pairs.true_positives / len(truth),
        "false_per_frame": pairs.false_positives / len(np.unique(truth["frame"])),
        **bound_ratio(error, bound, rng),
        "z_scores": z_scores(*errors_and_sigmas_nm(paired, condition.pixel_size_nm)),
        "subpixel": {
            axis: subpixel(
                seen[name], paired_px=seen[name], paired_true_px=at[name]
            ).as_dict()
            for axis, name in (("x", "x_px"), ("y", "y_px"))
        },
    }
    if z_edges_nm is not None and three_dimensional:
        result["by_z"] = [
            {
                "z_low_nm": low,
                "z_high_nm": high,
                "n": int(np.sum((truth["z_nm"] >= low) & (truth["z_nm"] < high))),
                **bound_ratio(
                    error[inside := (at["z_nm"] >= low) & (at["z_nm"] < high)],
                    bound[inside],
                    rng,
                    resamples=200,
                ),
            }
            for low, high in itertools.pairwise(z_edges_nm)
        ]
    return result
