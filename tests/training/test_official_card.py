"""Official parameter files: every number finds its place in the card, or is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from official_files import make_parameters, write_official

from blinkloop.errors import InputError
from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.official import (
    card_from_official,
    find_files,
    mirrored_axes,
    read_parameters,
)

SIX = Architecture(features=6)


@pytest.fixture
def card_of(tmp_path: Path):
    """Card of parameters, through a file."""

    def make(facts: dict, suffix: str = ".yaml", **options) -> ModelCard:
        path = tmp_path / f"param{suffix}"
        write = json.dumps if suffix == ".json" else yaml.safe_dump
        path.write_text(write(facts))
        return card_from_official(read_parameters(path), SIX, name="net", **options)

    return make


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_every_number_finds_its_place(suffix, card_of) -> None:
    card = card_of(make_parameters(), suffix)
    assert card.camera.model_dump(exclude={"exposure_ms", "bit_depth"}) == {
        "kind": "emccd",
        "baseline_adu": 398.6,
        "e_per_adu": 5.0,
        "em_gain": 100.0,
        "quantum_efficiency": 0.9,
        "read_noise_e": 58.8,
        "spurious_e": 0.0015,
        "pixel_size_nm": 100.0,
    }
    assert card.scaling.model_dump() == {
        "input_offset_photons": 110.0,
        "input_scale_photons": 140.0,
        "photons_max": 31000.0,
        "z_max_nm": 960.0,
        "background_max": 240.0,
    }
    ranges = card.training_ranges
    assert ranges.photons == (1000.0, 13000.0)
    assert ranges.background_photons == (20.0, 200.0)
    assert ranges.density_per_um2 == pytest.approx((0.0, 25 / 16))
    assert ranges.on_time_frames == (1.5, 1.5)
    assert card.z_range_nm == card.psf.z_range_nm == (-700.0, 800.0)
    assert (card.psf.kind, card.psf.file) == ("spline", "stack_3dcal.mat")
    assert (card.psf.sha256, card.psf.pixel_size_nm) == ("", 100.0)
    rule = card.detection
    assert (rule.threshold, rule.raw_threshold, rule.split) == (0.5, 0.1, 0.6)
    assert card.architecture == SIX
    assert card.architecture.logit_clamp == 8.0
    assert card.provenance["decode_version"] == "v0.10.0"
    assert card.provenance["assumed"] == []
    assert "beads" not in card.to_json()  # folders of the training machine
    assert ModelCard.from_json(card.to_json()) == card


def test_a_minimal_file_is_filled_as_decode_fills_it(card_of) -> None:
    """The few keys that DECODE's minimal example has."""
    full = make_parameters(
        Scaling={},
        Camera__qe=...,
        Camera__mirror_dim=...,
        Camera__convert2photons=...,
    )
    kept = {key: full[key] for key in ("Camera", "InOut", "Simulation", "Scaling")}
    kept["Simulation"] = {
        key: full["Simulation"][key]
        for key in ("bg_uniform", "emitter_extent", "intensity_mu_sig", "lifetime_avg")
    }
    card = card_of(kept | {"HyperParameter": None})
    assert card.scaling.model_dump() == {
        "input_offset_photons": 110.0,
        "input_scale_photons": 140.0,
        "photons_max": 31000.0,
        "z_max_nm": 960.0,
        "background_max": 240.0,
    }
    assert card.camera.quantum_efficiency == 1.0
    assert card.training_ranges.density_per_um2[1] == pytest.approx(20 / 16)
    assert card.training_ranges.photons == (1000.0, 13000.0)
    assumed = card.provenance["assumed"]
    assert "HyperParameter.arch_param.activation = ELU" in assumed
    assert "HyperParameter.arch_param.upsample_mode = nearest" in assumed
    assert "Simulation.emitter_av = 20" in assumed


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"Camera__em_gain": None}, ("camera", "kind"), "scmos"),
        ({"Camera__em_gain": []}, ("camera", "em_gain"), 1.0),
        ({"Camera__e_per_adu": "5e-1"}, ("camera", "e_per_adu"), 0.5),
        ({"CameraPreset": "Perfect"}, ("camera", "kind"), "ideal"),
        ({"CameraPreset": "Perfect"}, ("camera", "baseline_adu"), 0.0),
        ({"Camera__px_size": 127}, ("pixel_size_nm",), 127.0),
        (
            {"Simulation__bg_uniform": 90},
            ("training_ranges", "background_photons"),
            (90, 90),
        ),
        (
            {"Simulation__intensity_mu_sig": [900, 600]},
            ("training_ranges", "photons"),
            (100, 2100),
        ),
        ({"PostProcessingParam__raw_th": 0.05}, ("detection", "raw_threshold"), 0.05),
        ({"PostProcessing": "NMS"}, ("detection", "threshold"), 0.5),
        ({"PostProcessing": "LookUp"}, ("detection", "threshold"), 0.3),
        (
            {"HyperParameter__arch_param__activation": "nn.ELU()"},
            ("architecture", "features"),
            6,
        ),
        ({"HyperParameter__disabled_attributes": 3}, ("z_range_nm",), (0.0, 0.0)),
        (
            {"HyperParameter__disabled_attributes": 3},
            ("psf", "z_range_nm"),
            (-700.0, 800.0),
        ),
    ],
    ids=str,
)
def test_values_in_other_forms(changes, field, value, card_of) -> None:
    got = card_of(make_parameters(**changes)).model_dump()
    for name in field:
        got = got[name]
    assert got == value


def test_density_per_pixel_takes_precedence_and_scales_with_the_pixel(card_of) -> None:
    facts = make_parameters(Simulation__density=0.01, Camera__px_size=[200, 200])
    density = card_of(facts).training_ranges.density_per_um2
    assert density == pytest.approx((0.0, 0.25))


def test_a_number_of_the_command_line_overrules_the_file(card_of, tmp_path) -> None:
    calibration = tmp_path / "other_3dcal.mat"
    calibration.write_bytes(b"spline")
    card = card_of(
        make_parameters(Camera__px_size=[127.0, 117.0]),
        pixel_size_nm=122.0,
        calibration=calibration,
        detection={"threshold": 0.7},
    )
    assert card.pixel_size_nm == card.camera.pixel_size_nm == 122.0
    assert card.psf.file == "other_3dcal.mat"
    assert card.psf.sha256 == hashlib.sha256(b"spline").hexdigest()
    assert (card.detection.threshold, card.detection.raw_threshold) == (0.7, 0.1)
    assert card.provenance["decode_parameters"]["Camera"]["px_size"] == [127.0, 117.0]


def test_a_calibration_beside_the_parameters_is_hashed(card_of, tmp_path) -> None:
    (tmp_path / "stack_3dcal.mat").write_bytes(b"coefficients")
    digest = hashlib.sha256(b"coefficients").hexdigest()
    assert card_of(make_parameters()).psf.sha256 == digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"HyperParameter__architecture": "SimpleSMLMNet"}, "architecture is Simple"),
        ({"HyperParameter__channels_in": 1}, "HyperParameter.channels_in is 1"),
        ({"HyperParameter__arch_param__activation": "ReLU"}, "activation is ReLU"),
        ({"HyperParameter__arch_param__norm": "GroupNorm"}, "norm is GroupNorm"),
        ({"HyperParameter__arch_param__norm_head": "GroupNorm"}, "norm_head is Group"),
        ({"HyperParameter__arch_param__pool_mode": "MaxPool"}, "pool_mode is MaxPool"),
        ({"HyperParameter__arch_param__upsample_mode": "bilinear"}, "is bilinear"),
        ({"Camera__convert2photons": False}, "Camera.convert2photons is False"),
        ({"CameraPreset": "Other"}, "CameraPreset is Other"),
        ({"Simulation__xy_unit": "nm"}, "Simulation.xy_unit is nm"),
        ({"Simulation__img_size": [64, 64]}, "not as wide as img_size 64"),
        ({"Camera__baseline": None}, "Camera.baseline is missing"),
        ({"Camera__baseline": "high"}, r"Camera.baseline: .*valid number.*'high'"),
        ({"Camera__baseline": float("inf")}, "Camera.baseline: .*finite"),
        ({"Camera__read_sigma": ...}, "Camera.read_sigma is missing"),
        ({"Camera__em_gain": 0}, "em_gain that cannot be used"),
        ({"Camera__e_per_adu": -1}, "e_per_adu that cannot be used"),
        ({"Camera__px_size": None}, "px_size is missing; .*--pixel-size-nm"),
        ({"Camera__px_size": [127, 117]}, "117 and 127 nm, .*--pixel-size-nm"),
        ({"Camera__px_size": [1, 1, 1]}, "px_size is missing"),
        ({"InOut__calibration_file": None}, "calibration_file is empty; .*--calib"),
        ({"Simulation__emitter_extent": None}, "emitter_extent must end"),
        ({"Simulation__emitter_extent": [[0, 40], [0, 40], [9, -9]]}, "low before"),
        ({"Simulation__emitter_extent": [None, None, [-9, 9]]}, "must begin with"),
        ({"Simulation__intensity_mu_sig": [3]}, "intensity_mu_sig must be"),
        ({"Simulation__lifetime_avg": None}, "Simulation.lifetime_avg is missing"),
        ({"Simulation__bg_uniform": [1, 2, 3]}, "bg_uniform must be"),
        ({"Scaling__z_max": 0}, "z_max_nm that cannot be used"),
        ({"PostProcessingParam__raw_th": 2}, "threshold that cannot be used"),
        ({"HyperParameter": 3}, "HyperParameter: .*dictionary"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_mapped_is_named_in_one_line(changes, words, card_of) -> None:
    with pytest.raises(InputError, match=words) as caught:
        card_of(make_parameters(**changes))
    assert "\n" not in str(caught.value)
    assert "param.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("param.txt", "", r"ends in \.yaml, \.yml, \.json"),
        ("param.yaml", "a: [1", "not valid YAML"),
        ("param.json", "{'a': 1}", "not valid JSON"),
        ("param.json", "[" * 100000, "not valid JSON"),
        ("param.yaml", "", "not a parameter file of DECODE"),
        ("param.yaml", "Camera: {}", "not a parameter file of DECODE"),
        (
            "param.yaml",
            "Camera: {}\nSimulation: {}\nModel: {backbone: SigmaMUNet}",
            r"of DECODE 0\.11 or later .* those of 0.9 and 0.10 are",
        ),
        ("param.yaml", "name: small\nseed: 1\ncamera: {}\n", "not a parameter file"),
        ("param.yaml", "a: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
    ids=[
        "ending",
        "yaml",
        "json",
        "deep",
        "empty",
        "one section",
        "0.11",
        "recipe",
        "code",
    ],
)
def test_damaged_and_foreign_files_are_named(name, text, words, tmp_path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_parameters(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_parameters(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="it is not text"):
        read_parameters(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("value", "axes"),
    [
        (None, ()),
        (-1, ("columns",)),
        ([-2], ("rows",)),
        ([-1, -2], ("rows", "columns")),
    ],
    ids=str,
)
def test_mirrored_axes(value, axes, tmp_path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(make_parameters(Camera__mirror_dim=value)))
    assert mirrored_axes(read_parameters(path)) == axes


def test_an_unknown_mirrored_axis_is_named(tmp_path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(make_parameters(Camera__mirror_dim=2)))
    with pytest.raises(InputError, match="mirror_dim holds 2"):
        mirrored_axes(read_parameters(path))


def test_files_of_a_folder_are_found_or_asked_for(tmp_path) -> None:
    folder = write_official(tmp_path / "run")
    (folder / "ckpt.pt").write_bytes(b"")
    (folder / "param_run_in.yaml").write_text("")
    found = find_files(folder)
    assert (found.weights.name, found.parameters.name) == (
        "model_2.pt",
        "param_run.yaml",
    )
    assert find_files(folder / "model_2.pt") == found
    elsewhere = tmp_path / "mine.json"
    assert find_files(folder, elsewhere).parameters == elsewhere
    (folder / "param_run.yaml").rename(folder / "renamed.yaml")
    assert find_files(folder).parameters.name == "renamed.yaml"
    (folder / "second.yaml").write_text("")
    with pytest.raises(InputError, match=r"renamed\.yaml, second\.yaml .*--param"):
        find_files(folder)
    (folder / "model_0.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"last written is model_0\.pt"):
        find_files(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model_\*.pt of DECODE"):
        find_files(tmp_path / "empty")
    (tmp_path / "empty" / "model_1.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"no \.yaml or \.json .*--param"):
        find_files(tmp_path / "empty")
