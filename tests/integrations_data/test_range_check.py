"""Warnings come when data lie outside, and do not when they lie inside."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cards import make_card

from blinkloop.range_check import RangeReport, TrainingRangeCheck
from blinkloop.schema import LOCALIZATION_DTYPE

CARD = make_card(
    training_ranges={"background_photons": (5, 50), "density_per_um2": (0.1, 1)}
)


def _rows(count: int = 3000, **changed: Any) -> npt.NDArray[np.void]:
    """Localizations as the model would see them in its own simulation."""
    rng = np.random.default_rng(1)
    rows = np.zeros(count, LOCALIZATION_DTYPE)
    rows["photons"] = rng.uniform(300, 5000, count)
    rows["background_photons"] = rng.uniform(8, 40, count)
    rows["x_sigma_px"] = rows["y_sigma_px"] = rng.uniform(0.08, 0.25, count)
    rows["z_nm"] = rng.uniform(-500, 500, count)
    rows["prob"] = rng.uniform(0.5, 1, count)
    for name, change in changed.items():
        rows[name] = change(rows[name]) if callable(change) else change
    return rows


def _report(rows: npt.NDArray[np.void], **options: Any) -> RangeReport:
    check = TrainingRangeCheck(CARD)
    check.add(rows, frames=100, height=90, width=110, **options)
    return check.report()


def test_data_inside_draw_no_warning() -> None:
    report = _report(_rows())
    assert report.warnings == ()
    assert report.facts["density_per_um2"] == pytest.approx(3000 / (100 * 99))
    rows = _rows()
    for name, fact in (
        ("photons", "photons_median"),
        ("background_photons", "background_median"),
        ("prob", "prob_median"),
    ):
        assert report.facts[fact] == pytest.approx(np.median(rows[name]), rel=0.05)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (_rows(background_photons=1.0), "background of 1"),
        (_rows(background_photons=200.0), "background of 2"),
        (_rows(photons=lambda n: n * 10), "photons .median.*--em-gain"),
        (_rows(photons=40.0), "photons .median"),
        (_rows(prob=0.35), "unsure"),
        (_rows(x_sigma_px=1.5), "times worse than"),
        (_rows(z_nm=lambda z: np.sign(z) * 490), "100% of the localizations"),
        (np.repeat(_rows(), 6), "emitters per um"),
    ],
    ids=["dark", "bright", "photons", "dim", "prob", "sigma", "z", "density"],
)
def test_one_thing_outside_is_named(rows: npt.NDArray[np.void], says: str) -> None:
    warnings = _report(rows).warnings
    assert len(warnings) >= 1
    assert any(re.search(says, line) for line in warnings), warnings
    assert all("\n" not in line for line in warnings)


def test_few_localizations_say_nothing() -> None:
    assert _report(_rows(20, prob=0.3)).warnings == ()
    empty = _report(_rows(0))
    assert empty.warnings == ()
    assert empty.facts["photons_median"] is None


def test_streaming_in_pieces_gives_the_same() -> None:
    rows = _rows()
    check = TrainingRangeCheck(CARD)
    for i in range(100):
        check.add(rows[i * 30 : (i + 1) * 30], frames=1, height=90, width=110)
    whole, pieces = _report(rows).facts, check.report().facts
    assert pieces == pytest.approx(whole)


@pytest.mark.parametrize(
    ("adu", "says"),
    [
        (np.full((9, 11), 40, np.uint16), "below the camera's baseline"),
        (np.full((9, 11), 900, np.uint16), "trained with a background"),
        (np.full((9, 11), 65535, np.uint16), "saturated"),
        (np.full((9, 11), 255, np.uint8), "saturated"),
        (np.full((9, 11), 150, np.uint16), None),
    ],
    ids=["baseline", "bright", "saturated", "saturated_8_bit", "right"],
)
def test_pixels(adu: npt.NDArray[Any], says: str | None) -> None:
    check = TrainingRangeCheck(CARD)
    check.add_pixels(adu, (adu.astype(float) - 100) * 0.5)
    warnings = check.report().warnings
    if says is None:
        assert warnings == ()
    else:
        assert any(says in line for line in warnings), warnings
