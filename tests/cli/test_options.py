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


def test_flags_overrule_the_file(tmp_path: Path, model: Path) -> None:
    camera = tmp_path / "camera.yaml"
    camera.write_text("kind: emccd\nbaseline_adu: 200\nem_gain: 300\n")
    flags = "--em-gain 100 --qe 0.9 --read-noise 0 --e-per-adu 5 --pixel-size-nm 127"
    words = ["--camera", str(camera), *flags.split(), "--json", "-m", str(model)]
    seen = parse(*words)
    assert seen["as_json"] is True
    assert seen["model"] == model
    assert seen["camera_flags"] == CameraFlags(
        camera,
        {
            "em_gain": 100.0,
            "quantum_efficiency": 0.9,
            "read_noise_e": 0.0,
            "e_per_adu": 5.0,
            "pixel_size_nm": 127.0,
        },
    )


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
