"""What a dead man does with a laser of Micro-Manager.

Design notes
------------
A device behind a serial port can be open in one process only. The dead man therefore
opens it once the run is gone, in a core of its own, and opens nothing else: of the
configuration it keeps the laser's device, its hub, and whatever device its pre-init
properties name (the port), which takes milliseconds where a whole microscope takes
many seconds. A device that exists only inside the run's process (Python devices, the
demo adapter) is gone with it, and no second connection can reach it: then there is no
plan, and the reason is said.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.deadman import DeadManPlan

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["CoreSafeAction", "core_plan", "device_lines", "reach_of"]

SIMULATED = ("DemoCamera", "SequenceTester", "NotificationTester")
"""Adapters whose devices exist in the process that loaded them, and nowhere else."""


def device_lines(config: str, device: str) -> list[str]:
    """Lines of a configuration that open one device and what it hangs on.

    Parameters
    ----------
    config
        Text of a Micro-Manager .cfg.
    device
        Label of the device.

    Returns
    -------
    list of str
        `Device`, pre-init `Property` and `Parent` lines, then the one that
        initializes. Empty when the device is not in the configuration.
    """
    rows = [line.strip().split(",") for line in config.splitlines()]
    start = [i for i, row in enumerate(rows) if row == _INITIALIZE]
    before = rows[: start[0]] if start else rows
    known = {row[1]: row for row in before if row[0] == "Device" and len(row) == 4}
    wanted, waiting = set(), [device]
    while waiting:
        label = waiting.pop()
        if label in wanted or label not in known:
            continue
        wanted.add(label)
        for row in before:
            if row[0] in ("Parent", "Property") and row[1:2] == [label]:
                # A hub, or a property that holds the label of a port.
                waiting.append(row[-1])
    if not wanted:
        return []
    kept = [
        row
        for row in before
        if row[0] in ("Device", "Property", "Parent") and row[1:2] and row[1] in wanted
    ]
    return [",".join(row) for row in [_RESET, *kept, _INITIALIZE]]


_RESET = ["Property", "Core", "Initialize", "0"]
_INITIALIZE = ["Property", "Core", "Initialize", "1"]


def core_plan(
    core: CMMCorePlus,
    device: str,
    property_name: str,
    safe_value: float,
    config: str | Path | None,
    *,
    slack: float = 0.01,
    log: str | Path = "",
) -> DeadManPlan | str:
    """A plan for a laser of this core, or why there is none, in one line.

    Parameters
    ----------
    core
        The run's.
    device, property_name
        The laser.
    safe_value
        To be set.
    config
        The configuration that was loaded; None = none was.
    slack
        Largest difference between the safe value and the one read back.
    log
        Of the dead man.
    """
    python = getattr(core, "isPyDevice", None)
    if callable(python) and python(device):
        return f"{device} is a Python device of this process and ends with it"
    library = core.getDeviceLibrary(device)
    if library in SIMULATED:
        return f"{device} is simulated ({library}) in this process and ends with it"
    if config is None:
        return f"no configuration file says how to open {device} anew"
    try:
        text = Path(config).read_text("utf-8", errors="replace")
    except OSError as error:
        return f"the configuration cannot be read again ({error.strerror})"
    lines = device_lines(text, device)
    if not lines:
        return f"{device} is not in {config}, so it cannot be opened anew"
    return DeadManPlan(
        "blinkloop.integrations.micromanager.deadman:CoreSafeAction",
        {
            "lines": lines,
            "device": device,
            "property_name": property_name,
            "safe_value": safe_value,
            "slack": slack,
            "adapter_paths": list(core.getDeviceAdapterSearchPaths()),
        },
        log=str(log),
    )


def reach_of(config: str | Path, laser: str) -> str:
    """Whether a dead man could reach a laser, by its configuration alone.

    Nothing is loaded and no device is opened.

    Parameters
    ----------
    config
        A Micro-Manager configuration.
    laser
        DEVICE.PROPERTY, or the device alone.

    Returns
    -------
    str
        "yes: ..." or "no: ...", in one line.

    Raises
    ------
    InputError
        The file cannot be read, or has no such device.
    """
    try:
        text = Path(config).read_text("utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            f"{config} cannot be read ({error.strerror}); give the .cfg file of the "
            f"microscope"
        ) from error
    rows = [line.strip().split(",") for line in text.splitlines()]
    kinds = {row[1]: row[2] for row in rows if row[0] == "Device" and len(row) == 4}
    written = {row[1] for row in rows if row[0] == "#py pyDevice" and len(row) == 4}
    named = [
        label
        for label in (*kinds, *written)
        if laser == label or laser.startswith(f"{label}.")
    ]
    if not named:
        raise InputError(
            f"{config} has no device for {laser}; it has: "
            f"{', '.join((*kinds, *written)) or 'none'}"
        )
    label = max(named, key=len)
    if label in written:
        return f"no: {label} is a Python device and ends with the run"
    if kinds[label] in SIMULATED:
        return f"no: {label} is simulated ({kinds[label]}) and ends with the run"
    alone = [line.split(",")[1] for line in device_lines(text, label)]
    others = sorted({other for other in alone if other in kinds} - {label})
    way = f" with {', '.join(others)}" if others else ""
    return f"yes: {label} ({kinds[label]}) is opened anew{way} once the run is gone"


class CoreSafeAction:
    """Opens the laser's device in a core of its own and sets the safe value.

    Parameters
    ----------
    lines
        Configuration of this device alone.
    device, property_name
        The laser.
    safe_value, slack
        To be set and read back; largest difference between the two.
    adapter_paths
        Where the device adapters lie.
    """

    needs_owner_gone = True

    def __init__(
        self,
        lines: list[str],
        device: str,
        property_name: str,
        safe_value: float,
        slack: float,
        adapter_paths: list[str],
    ) -> None:
        self._lines = lines
        self._device, self._property = device, property_name
        self._safe, self._slack, self._paths = safe_value, slack, adapter_paths

    def prepare(self) -> None:
        """Load the adapters' libraries; no device is opened."""
        import pymmcore

        self._core = pymmcore.CMMCore()
        self._core.setDeviceAdapterSearchPaths(self._paths)
        for line in self._lines:
            kind, _, rest = line.partition(",")
            if kind == "Device":
                self._core.getAvailableDevices(rest.split(",")[1])

    def act(self) -> str:
        """Open, set, read back. A load that fails leaves nothing open (MMCore)."""
        import pymmcore

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "laser.cfg"
            path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")
            self._core.loadSystemConfiguration(str(path))
        kind = self._core.getPropertyType(self._device, self._property)
        text = (
            str(int(self._safe))
            if kind == pymmcore.Integer
            else f"{self._safe + 0.0:.6f}"
        )
        self._core.setProperty(self._device, self._property, text)
        read = float(self._core.getProperty(self._device, self._property))
        if not abs(read - self._safe) <= self._slack:
            raise DeviceError(f"{self._device} reports {read:g} after {text} was set")
        return f"{self._device}.{self._property} set to {text}, reads {read:g}"
