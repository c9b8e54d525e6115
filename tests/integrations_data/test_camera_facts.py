"""Flags before camera file before metadata before model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cards import make_card

from blinkloop.camera_facts import ResolvedCamera, model_meta, resolve_camera
from blinkloop.errors import InputError
from blinkloop.optics import Camera
from blinkloop.runtime import make_camera_maps
from blinkloop.schema import CameraSettings, ModelCard


@pytest.fixture
def card() -> ModelCard:
    camera = CameraSettings(baseline_adu=1, e_per_adu=2, read_noise_e=3)
    return make_card(camera=camera, training_ranges={"density_per_um2": (0.1, 1)})


def test_order_of_the_sources(card: ModelCard, tmp_path: Path) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text("baseline_adu: 11\ne_per_adu: 12\n")
    found = resolve_camera(
        {"baseline_adu": 21.0, "em_gain": None},
        file,
        {"e_per_adu": 31.0, "bit_depth": 12, "pixel_size_nm": 100.4},
        card,
        source="Micro-Manager",
    )
    s = found.settings
    assert (s.baseline_adu, s.e_per_adu, s.bit_depth, s.read_noise_e) == (21, 12, 12, 3)
    assert s.pixel_size_nm == 100.4
    assert set(found.origin) == set(CameraSettings.model_fields)
    assert {k: found.origin[k] for k in ("baseline_adu", "e_per_adu", "bit_depth")} == {
        "baseline_adu": "flag",
        "e_per_adu": "camera file",
        "bit_depth": "Micro-Manager",
    }
    assert found.origin["em_gain"] == "model card"
    assert "baseline 21 ADU (from the flags)" in found.text
    assert "pixel 100.4 nm (from Micro-Manager)" in found.text
    assert "\n" not in found.text
    assert found.meta()["camera"]["e_per_adu"] == 12


def test_card_alone_is_enough(card: ModelCard) -> None:
    found = resolve_camera({}, None, {}, card)
    assert found.settings == card.camera
    assert set(found.origin.values()) == {"model card"}
    assert model_meta(card)["psf"]["kind"] == "gaussian"


@pytest.mark.parametrize(
    ("flags", "facts", "says"),
    [
        ({}, {"pixel_size_nm": 160.0}, r"160 nm \(the movie's metadata\).*100 nm"),
        ({"pixel_size_nm": 98.9}, {}, "the flags.*train"),
        ({"pixel_size_nm": 0.1}, {}, r"0.1 nm \(the flags\).* in nm, e.g. 100"),
        ({}, {"pixel_size_nm": 16000.0}, "16000 nm .*camera pixel / magnification"),
        ({"e_per_adu": 0.0}, {}, "flag: e_per_adu = 0.0"),
        ({}, {"em_gain": 0.5}, "movie: em_gain"),
        ({"colour": 1}, {}, "unknown camera fact 'colour'"),
    ],
    ids=["metadata", "flag", "um", "chip", "value", "metadata_value", "unknown"],
)
def test_what_cannot_be(
    flags: dict[str, Any], facts: dict[str, Any], says: str, card: ModelCard
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        resolve_camera(flags, None, facts, card)
    assert "\n" not in str(caught.value)


def test_a_flag_overrules_wrong_metadata(card: ModelCard) -> None:
    found = resolve_camera({"pixel_size_nm": 100.0}, None, {"pixel_size_nm": 160}, card)
    assert found.origin["pixel_size_nm"] == "flag"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.yaml", "a: [1", "not valid"),
        ("c.json", "{", "not valid"),
        ("c.json", "[1]", "holds list"),
        ("c.yaml", "gain: 3", "camera file: unknown camera fact 'gain'"),
        ("c.yaml", None, "cannot be read"),
    ],
    ids=["yaml", "json", "list", "unknown", "missing"],
)
def test_bad_camera_file(
    name: str, text: str | None, says: str, card: ModelCard, tmp_path: Path
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        resolve_camera({}, file, {}, card)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pixel_nm", [59.5, 60.0, 117.0, 160.0, 161.5])
def test_amortized_model_serves_a_range(card: ModelCard, pixel_nm: float) -> None:
    wide = card.model_copy(update={"pixel_size_range_nm": (60.0, 160.0)})
    found = resolve_camera({"pixel_size_nm": pixel_nm}, None, {}, wide)
    assert found.settings.pixel_size_nm == pixel_nm


@pytest.mark.parametrize("pixel_nm", [50.0, 170.0])
def test_amortized_model_refuses_others(card: ModelCard, pixel_nm: float) -> None:
    wide = card.model_copy(update={"pixel_size_range_nm": (60.0, 160.0)})
    with pytest.raises(InputError, match="serves 60 to 160 nm"):
        resolve_camera({"pixel_size_nm": pixel_nm}, None, {}, wide)


def test_density_range_follows_the_pixel(card: ModelCard) -> None:
    # Half the pixel size: four times as many emitters per um^2 at equal spots per px.
    assert card.density_per_um2_at(50.0) == pytest.approx((0.4, 4.0))


def kind_and_gain(found: ResolvedCamera) -> tuple[str, str, float, str]:
    s = found.settings
    return s.kind, found.origin["kind"], s.em_gain, found.origin["em_gain"]


def test_an_em_gain_makes_an_emccd(card: ModelCard, tmp_path: Path) -> None:
    flags = resolve_camera({"em_gain": 200.0}, None, {}, card)
    assert kind_and_gain(flags) == ("emccd", "flag", 200, "flag")
    movie = resolve_camera({}, None, {"em_gain": 100.0}, card)
    assert kind_and_gain(movie) == ("emccd", "movie", 100, "movie")
    # Its noise is that of an EMCCD, and its light is divided by the gain, everywhere.
    adu = np.full((1, 1, 1), 1001.0)
    photons = Camera(flags.settings).backward(adu)
    maps = make_camera_maps(flags.settings)
    assert photons[0, 0, 0] == pytest.approx(10)  # 1000 ADU of 2 e, gain 200
    by_maps = (adu - maps.offset_adu) * maps.photons_per_adu
    assert by_maps[0, 0, 0] == pytest.approx(10)
    none = resolve_camera({"em_gain": 1.0}, None, {}, card)
    assert kind_and_gain(none) == ("scmos", "model card", 1, "flag")


def test_another_kind_has_no_em_gain(card: ModelCard, tmp_path: Path) -> None:
    camera = CameraSettings(kind="emccd", em_gain=300, e_per_adu=45)
    emccd = make_card(camera=camera)
    file = tmp_path / "camera.yaml"
    file.write_text("kind: scmos\n")
    found = resolve_camera({}, file, {}, emccd)
    assert kind_and_gain(found) == ("scmos", "camera file", 1, "camera file")
    # What is said later counts: here of a movie, corrected by a person.
    found = resolve_camera({}, file, {"em_gain": 50.0}, card)
    assert kind_and_gain(found) == ("scmos", "camera file", 1, "camera file")
    found = resolve_camera({"em_gain": 50.0}, file, {}, card)
    assert kind_and_gain(found) == ("emccd", "flag", 50, "flag")
    found = resolve_camera({}, None, {}, emccd)
    assert kind_and_gain(found) == ("emccd", "model card", 300, "model card")
    file.write_text("kind: scmos\nem_gain: 50\n")
    with pytest.raises(InputError, match="kind scmos has no EM gain, got 50; say"):
        resolve_camera({}, file, {}, card)
    file.write_text("kind: scmos\nem_gain: much\n")
    with pytest.raises(InputError, match="em_gain = 'much' cannot be used"):
        resolve_camera({}, file, {}, card)
