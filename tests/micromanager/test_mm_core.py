"""Opening a core: the demo configuration, and one line for everything that fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blinkloop.errors import InputError, MissingExtraError
from blinkloop.integrations.micromanager import core as core_module
from blinkloop.integrations.micromanager import new_core, open_core, select_camera


def _fails(match: str, *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError, match=match) as caught:
        open_core(*args, **kwargs)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("python_devices", [True, False], ids=["UniMMCore", "plain"])
def test_the_demo_configuration_is_found(python_devices: bool) -> None:
    core = open_core(python_devices=python_devices)
    assert core.getCameraDevice() == "Camera"
    assert hasattr(core, "loadPyDevice") == python_devices
    core.unloadAllDevices()


@pytest.mark.parametrize("name", ["nope.cfg", "/nope/nope.cfg"])
def test_missing_configuration(name: str) -> None:
    assert name in _fails("no Micro-Manager configuration", name)


@pytest.mark.parametrize("python_devices", [True, False], ids=["UniMMCore", "plain"])
def test_configuration_of_unknown_devices(tmp_path: Path, python_devices: bool) -> None:
    config = tmp_path / "bad.cfg"
    config.write_text("Device,Cam,NoSuchAdapter,DCam\n")
    text = _fails("could not load", config, python_devices=python_devices)
    assert "NoSuchAdapter" in text


def test_configuration_without_camera(tmp_path: Path) -> None:
    config = tmp_path / "empty.cfg"
    config.write_text("Device,DHub,DemoCamera,DHub\nProperty,Core,Initialize,1\n")
    _fails("no camera is selected.*no camera at all", config)


def test_no_such_camera() -> None:
    assert "Camera" in _fails("no camera 'Andor'", camera="Andor")


def test_no_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails(
        "no Micro-Manager device adapters in .*mm-test-adapters",
        None,
        adapter_path=tmp_path,
    )
    monkeypatch.setattr("pymmcore_plus.find_micromanager", lambda: None)
    _fails("no Micro-Manager device adapters found")


def test_a_library_that_cannot_be_opened(tmp_path: Path) -> None:
    from mm_test_adapters import device_adapter_path

    for file in Path(device_adapter_path()).iterdir():
        if "DemoCamera" in file.name or file.suffix == ".cfg":
            shutil.copy(file, tmp_path)
    library = next(p for p in tmp_path.iterdir() if p.suffix != ".cfg")
    library.write_bytes(b"not a library")
    assert "DemoCamera" in _fails("could not load", adapter_path=tmp_path)
    # The plain core says why, without touching a device.
    assert str(library) in core_module._probe("DemoCamera", str(tmp_path))


# What MMCore 12.5.1 says to mm-test-adapters 74 (measured); UniMMCore drops the end.
_REFUSED = 'Failed to load device adapter "DemoCamera" from "/mm/libDemoCamera.so.0"'
_WHY = (
    " [ Incompatible device interface version "
    "(MMCore requires 75; device adapter has 74) ]"
)


@pytest.mark.parametrize(
    "told", [_REFUSED + _WHY, _REFUSED], ids=["plain", "UniMMCore"]
)
def test_adapters_of_another_interface(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr(core_module, "_probe", lambda *_: _REFUSED + _WHY)
    text = core_module._explain(told, Path("a.cfg"), "/mm")
    assert "/mm have device interface 74" in text
    assert "pymmcore==11.10.0.74.*" in text


def test_no_pymmcore_plus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blinkloop.extras.installed", lambda _: False)
    with pytest.raises(MissingExtraError, match=r"blinkloop\[micromanager\]"):
        new_core()


def test_empty_core_has_no_camera() -> None:
    with pytest.raises(InputError, match="no camera is selected"):
        select_camera(new_core())
