"""The next command to type is one that works with this model."""

from __future__ import annotations

from pathlib import Path

import pytest
from cards import make_card

from blinkloop.cli._try import next_is_to_try
from blinkloop.schema import ModelCard, SplinePsfSettings

MEASURED = SplinePsfSettings(file="psf.h5", z_range_nm=(-500, 500))


class File:
    """A model file that is its card."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card


@pytest.mark.parametrize("measured", [True, False])
def test_the_virtual_microscope_is_for_gaussian_psfs(
    measured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = make_card()
    if measured:
        card = card.model_copy(update={"psf": MEASURED})
    monkeypatch.setattr("blinkloop.runtime.read_model", lambda path: File(card))
    next_is_to_try("mine.onnx", Path("mine.onnx"))
    verb = "fit movie.tif" if measured else "demo"
    assert f"next: blinkloop {verb} -m mine.onnx" in capsys.readouterr().err
