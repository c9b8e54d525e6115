"""Make a Micro-Manager core and load a configuration, with errors people can act on."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.micromanager.facts import one_line, select_camera

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["configuration_error", "find_configuration", "new_core", "open_core"]

_FEATURE = "Micro-Manager"
_EXTRA = "micromanager"
_MISMATCH = re.compile(r"MMCore requires (\d+); device adapter has (\d+)")
_ADAPTER_FILE = re.compile(r'Failed to load device adapter "([^"]+)"')
DEMO_CONFIG = "MMConfig_demo.cfg"


def new_core(
    adapter_path: str | Path | None = None, *, python_devices: bool = True
) -> CMMCorePlus:
    """An empty core: no configuration loaded, no adapters needed.

    Parameters
    ----------
    adapter_path
        Folder of the device adapters; None = what pymmcore-plus finds
        (MICROMANAGER_PATH, `mmcore use`, its own installs, mm-test-adapters, system).
    python_devices
        True = a core that holds devices written in Python too (`UniMMCore`).

    Raises
    ------
    MissingExtraError
        When pymmcore-plus is not installed.
    """
    require("pymmcore_plus", _FEATURE, _EXTRA)
    from pymmcore_plus import CMMCorePlus

    path = None if adapter_path is None else str(adapter_path)
    with _no_advice():
        if not python_devices:
            return CMMCorePlus(mm_path=path)
        from pymmcore_plus.experimental.unicore import UniMMCore

        return UniMMCore(mm_path=path)


def open_core(
    config: str | Path | None = None,
    *,
    adapter_path: str | Path | None = None,
    camera: str | None = None,
    python_devices: bool = True,
) -> CMMCorePlus:
    """A core with a configuration loaded and a camera selected.

    Parameters
    ----------
    config
        Micro-Manager configuration file; None = the demo configuration that lies
        beside the device adapters (Micro-Manager itself and mm-test-adapters have it).
    adapter_path
        See `new_core`.
    camera
        Label of the camera to use; None = the one the configuration names.
    python_devices
        See `new_core`.

    Raises
    ------
    MissingExtraError
        When pymmcore-plus is not installed.
    InputError
        No device adapters, no such file, adapters of another device interface, a
        configuration that does not load, no camera.
    """
    core = new_core(adapter_path, python_devices=python_devices)
    path, folder = find_configuration(core, config, adapter_path)
    try:
        core.loadSystemConfiguration(str(path))
    except Exception as error:
        raise configuration_error(error, path, folder) from error
    select_camera(core, camera)
    return core


def find_configuration(
    core: CMMCorePlus,
    config: str | Path | None,
    adapter_path: str | Path | None = None,
) -> tuple[Path, str]:
    """Configuration file and folder of the device adapters; see `open_core`."""
    folder = _adapter_folder(core, adapter_path)
    path = Path(folder) / DEMO_CONFIG if config is None else Path(config).expanduser()
    if not path.is_file():
        beside = Path(folder) / path
        if path.is_absolute() or not beside.is_file():
            raise InputError(
                f"no Micro-Manager configuration at {path}; give the .cfg file that "
                "Micro-Manager's Hardware Configuration Wizard wrote"
            )
        path = beside
    _check_text(path)
    return path, folder


def _check_text(path: Path) -> None:
    """`InputError` for bytes the core does not read as text, or stumbles over."""
    try:
        text = path.read_bytes().decode("utf-8")
        why = "begins with a byte order mark" if text.startswith("\ufeff") else ""
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        why = f"is not UTF-8 text (byte 0x{byte:02x} in line {line})"
    except OSError as error:
        why = f"cannot be read ({error.strerror or error})"
    if why:
        raise InputError(
            f"{path} {why}; open it in an editor and save it as UTF-8 without BOM"
        )


def configuration_error(error: Exception, path: Path, folder: str) -> InputError:
    """Why a configuration does not load, in one line."""
    return InputError(_explain(one_line(error), path, folder))


def _adapter_folder(core: CMMCorePlus, adapter_path: str | Path | None) -> str:
    """Folder of the device adapters; `InputError` when there are none in it."""
    from pymmcore_plus import find_micromanager

    with _no_advice():
        folder = str(adapter_path) if adapter_path is not None else find_micromanager()
    version = core.getAPIVersionInfo()
    interface = _device_interface(core)
    how = (
        f"install Micro-Manager (device interface {interface}) and run `mmcore use`, "
        f"or, for the demo devices: pip install 'mm-test-adapters=={interface}.*'"
    )
    if not folder:
        raise InputError(f"no Micro-Manager device adapters found ({version}); {how}")
    if not Path(folder).is_dir() or not core.getDeviceAdapterNames():
        raise InputError(
            f"no Micro-Manager device adapters in {folder} ({version}); {how}"
        )
    return folder


@contextmanager
def _no_advice() -> Iterator[None]:
    """Without pymmcore-plus's own lines on Micro-Manager not being found: we say it."""

    def of_others(record: logging.LogRecord) -> bool:
        return record.filename != "_discovery.py"

    log = logging.getLogger("pymmcore-plus")
    log.addFilter(of_others)
    try:
        yield
    finally:
        log.removeFilter(of_others)


def _device_interface(core: CMMCorePlus) -> str:
    match = re.search(r"Device API version (\d+)", core.getAPIVersionInfo())
    return match.group(1) if match else "?"


def _explain(text: str, path: Path, folder: str) -> str:
    """Turn a load failure into one line; finds mismatched device interfaces."""
    mismatch = _MISMATCH.search(text)
    if mismatch is None:
        adapter = _ADAPTER_FILE.search(text)
        mismatch = adapter and _MISMATCH.search(_probe(adapter.group(1), folder))
    if mismatch:
        required, found = mismatch.groups()
        return (
            f"the device adapters in {folder} have device interface {found}, the "
            f"installed pymmcore needs {required}; install the pymmcore whose version "
            f"has {found} as its fourth number, e.g. pip install "
            f"'pymmcore{_pymmcore_for(int(found))}', or adapters of interface "
            f"{required}"
        )
    return (
        f"Micro-Manager could not load {path} ({text}); check that the devices are "
        "on, not used by another program, and that the file loads in Micro-Manager"
    )


def _pymmcore_for(interface: int) -> str:
    """Version specifier for a device interface; the known ones by name."""
    known = {74: "==11.10.0.74.*", 75: "==12.5.1.75.*"}
    return known.get(interface, f"==*.{interface}.*")


def _probe(adapter: str, folder: str) -> str:
    """Ask a plain core why an adapter does not load; the Python core drops the cause.

    Only the library is opened: the device name does not exist, so no hardware is
    touched.
    """
    import pymmcore

    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([folder])
    with tempfile.TemporaryDirectory() as temporary:
        config = Path(temporary) / "probe.cfg"
        config.write_text(f"Device,probe,{adapter},blinkloop-probe\n")
        try:
            core.loadSystemConfiguration(str(config))
        except Exception as error:  # the text is the answer
            return one_line(error)
    return ""
