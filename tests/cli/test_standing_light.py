"""Places where something is found in most frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.schema import LOCALIZATION_DTYPE
from blinkloop.standing_light import StandingLight

REGION = (30, 10, 41, 23)


def blinking(frames: int, per_frame: float, seed: int = 0) -> npt.NDArray[np.void]:
    """Localizations at random places of the region."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(rng.poisson(frames * per_frame), LOCALIZATION_DTYPE)
    rows["frame"] = np.sort(rng.integers(0, frames, len(rows)))
    rows["x_px"] = rng.uniform(29.5, 70.5, len(rows))
    rows["y_px"] = rng.uniform(9.5, 32.5, len(rows))
    return rows


def standing(
    frames: int, x: float, y: float, share: float = 1.0
) -> npt.NDArray[np.void]:
    """One place, found in a share of the frames, give or take a third of a pixel."""
    rng = np.random.default_rng(1)
    rows = np.zeros(round(frames * share), LOCALIZATION_DTYPE)
    rows["frame"] = np.sort(rng.permutation(frames)[: len(rows)])
    rows["x_px"] = rng.normal(x, 0.1, len(rows))
    rows["y_px"] = rng.normal(y, 0.1, len(rows))
    return rows


def test_a_bead_is_told_with_its_place() -> None:
    light = StandingLight()
    rows = np.concatenate([blinking(300, 6), standing(300, 70, 10)])
    light.add(rows, REGION, 300)
    assert light.share() == pytest.approx(300 / len(rows), abs=0.01)
    line = light.warning()
    assert line is not None
    assert "15 %" in line  # 300 of 2117, and what is near
    assert "x 70, y 10 px" in line
    assert light.facts() == {"standing_share": light.share()}


@pytest.mark.parametrize(
    "rows",
    [
        blinking(300, 50),
        np.concatenate([blinking(300, 2), standing(300, 50, 20, 0.3)]),
        np.concatenate([blinking(300, 30), standing(300, 50, 20)]),
        blinking(300, 0),
    ],
    ids=["many", "an emitter of a cluster", "a bead among many", "none"],
)
def test_what_is_not_worth_a_word(rows: npt.NDArray[np.void]) -> None:
    light = StandingLight()
    light.add(rows, REGION, 300)
    assert light.warning() is None
    assert light.share() is not None


def test_two_of_a_frame_count_once() -> None:
    light = StandingLight()
    few = standing(300, 50, 20, 0.3)
    light.add(np.concatenate([few, few]), REGION, 300)
    assert light.share() == 0


def test_too_few_frames_say_nothing_and_a_new_region_begins_anew() -> None:
    light = StandingLight()
    light.add(standing(150, 50, 20), REGION, 150)
    assert light.share() is None
    light.add(standing(150, 5, 2), (0, 0, 9, 5), 150)
    assert light.share() is None
    later = standing(60, 5, 2)
    later["frame"] += 150
    light.add(later, (0, 0, 9, 5), 60)
    assert light.share() == 1
    # What is known is kept.
    light.add(blinking(100, 5), REGION, 100)
    assert light.share() == 1


def test_parts_give_the_same_as_the_whole() -> None:
    rows = np.concatenate([blinking(400, 9), standing(400, 44, 30)])
    rows = rows[np.argsort(rows["frame"], kind="stable")]
    whole, parts = StandingLight(), StandingLight()
    whole.add(rows, REGION, 400)
    for first in range(0, 400, 50):
        inside = (rows["frame"] >= first) & (rows["frame"] < first + 50)
        parts.add(rows[inside], REGION, 50)
    assert parts.share() == whole.share()
    for _ in range(20):
        assert not parts.enough or parts.share() is not None
        parts.add(rows, REGION, 400)
    assert parts.enough
