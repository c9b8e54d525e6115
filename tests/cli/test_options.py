from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from blinkloop.cli._bundled import bundled_models, resolve_model
from blinkloop.cli._options import (
    CameraFlags,
    camera_options,
    json_option,
    model_option,
)
from blinkloop.errors import InputError


def parse(*arguments: str, required: bool = True) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @click.command()
    @camera_options
    @json_option
    @model_option(required=required)
    def verb(**kwargs: Any) -> None:
        seen.update(kwargs)

    result = CliRunner().invoke(verb, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return seen


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    return path


def test_nothing_given() -> None:
    seen = parse(required=False)
    assert seen == {"camera_flags": CameraFlags(), "as_json": False, "model": None}
    assert seen["camera_flags"].facts() == {}


def test_flags_overrule_the_file(tmp_path: Path, model: Path) -> None:
    camera = tmp_path / "camera.yaml"
    camera.write_text("kind: emccd\nbaseline_adu: 200\nem_gain: 300\n")
    flags = "--em-gain 100 --qe 0.9 --read-noise 0 --e-per-adu 5 --pixel-size-nm 127"
    words = ["--camera", str(camera), *flags.split(), "--json", "-m", str(model)]
    seen = parse(*words)
    assert seen["as_json"] is True
    assert seen["model"] == model
    assert seen["camera_flags"].facts() == {
        "kind": "emccd",
        "baseline_adu": 200,
        "em_gain": 100.0,
        "quantum_efficiency": 0.9,
        "read_noise_e": 0.0,
        "e_per_adu": 5.0,
        "pixel_size_nm": 127.0,
    }


def test_json_camera_file(tmp_path: Path) -> None:
    camera = tmp_path / "camera.json"
    camera.write_text('{"e_per_adu": 0.48}')
    assert CameraFlags(camera).facts() == {"e_per_adu": 0.48}


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        pytest.param(
            "c.yaml", "gain: 3", "unknown camera fact 'gain'; known", id="key"
        ),
        pytest.param("c.yaml", "em_gain: 0.1", "em_gain = 0.1 cannot be", id="range"),
        pytest.param("c.yaml", "em_gain: high", "em_gain = 'high' cannot", id="text"),
        pytest.param("c.yaml", "- 1", "got list", id="list"),
        pytest.param("c.yaml", "", "got NoneType", id="empty"),
        pytest.param("c.yaml", "a: [", "not a valid camera description", id="yaml"),
        pytest.param("c.json", "{", "not a valid camera description", id="json"),
        pytest.param("c.yaml", b"\xff\xfe\x00", "it is not text", id="binary"),
        pytest.param("c.yaml", None, "No such file", id="missing"),
    ],
)
def test_bad_camera_file_is_one_clear_line(
    tmp_path: Path, name: str, text: str | bytes | None, match: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=match) as caught:
        CameraFlags(path).facts()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_bad_flag_is_named() -> None:
    flags = CameraFlags(None, {"quantum_efficiency": 90.0})
    with pytest.raises(InputError, match="quantum_efficiency = 90"):
        flags.facts()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nothing", "no bundled model 'nothing'"),
        ("nothing.onnx", "no such model file"),
        ("folder/nothing", "no such model file"),
        ("", "no bundled model ''"),
    ],
)
def test_unknown_model(name: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        resolve_model(name)


def test_model_is_required() -> None:
    with pytest.raises(click.MissingParameter):
        parse()


def test_bundled_models_are_found_by_name() -> None:
    for name, path in bundled_models().items():
        assert resolve_model(name) == path
