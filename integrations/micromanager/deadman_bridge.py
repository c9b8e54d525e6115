"""What a dead man does with a laser behind pycromanager's Java bridge.

Micro-Manager holds the device in its own (Java) process and goes on living when the run
dies, so the dead man has a connection of its own from the start and needs nobody gone.

Tested with a double of the bridge only: Micro-Manager Studio is not part of the tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from blinkloop.errors import DeviceError
from blinkloop.extras import require
from blinkloop.runtime.deadman import DeadManPlan

__all__ = ["BridgeSafeAction", "bridge_plan"]

DEFAULT_PORT = 4827
"""Of the ZMQ server of Micro-Manager Studio."""

_ANSWER_S = 5.0
_T = TypeVar("_T")


def bridge_plan(
    device: str,
    property_name: str,
    safe_value: float,
    *,
    slack: float = 0.01,
    port: int = DEFAULT_PORT,
    log: str | Path = "",
) -> DeadManPlan:
    """A plan for a laser behind the bridge; parameters as of `core_plan`."""
    return DeadManPlan(
        "blinkloop.integrations.micromanager.deadman_bridge:BridgeSafeAction",
        {
            "device": device,
            "property_name": property_name,
            "safe_value": safe_value,
            "slack": slack,
            "port": port,
        },
        log=str(log),
    )


class BridgeSafeAction:
    """Sets the safe value through a bridge of its own.

    Parameters
    ----------
    device, property_name, safe_value, slack, port
        See `bridge_plan`.
    connect
        Makes a core from a port; None = pycromanager's.
    """

    needs_owner_gone = False

    def __init__(
        self,
        device: str,
        property_name: str,
        safe_value: float,
        slack: float,
        port: int,
        connect: Callable[[int], Any] | None = None,
    ) -> None:
        self._device, self._property = device, property_name
        self._safe, self._slack, self._port = safe_value, slack, port
        self._connect = connect or _pycromanager
        self._core: Any = None
        # Let go, a core waits for ever for a Micro-Manager that has gone.
        self._broken: list[Any] = []

    def prepare(self) -> None:
        """Connect, and see that the property is there."""
        self._core = self._connect(self._port)
        self._read()

    def act(self) -> str:
        """Set and read back; a connection that broke is made anew.

        Raises
        ------
        DeviceError
            It reports another value, or nobody has answered for some seconds.
        """
        try:
            text, read = self._within(_ANSWER_S, self._set)
        except Exception:
            self._broken.append(self._core)
            self._core = None
            raise
        if not abs(read - self._safe) <= self._slack:
            raise DeviceError(f"{self._device} reports {read:g} after {text} was set")
        return f"{self._device}.{self._property} set to {text}, reads {read:g}"

    def _set(self) -> tuple[str, float]:
        if self._core is None:
            self._core = self._connect(self._port)
        text = f"{self._safe + 0.0:g}"
        self._core.set_property(self._device, self._property, text)
        return text, self._read()

    def _within(self, limit_s: float, function: Callable[[], _T]) -> _T:
        """In a thread, as a bridge waits for ever for a Micro-Manager that has gone.

        A new one for every attempt: the one thread that `pycromanager.core` calls with
        would still hang in the last attempt.
        """
        results: list[_T] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.append(function())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(limit_s)
        if errors:
            raise errors[0]
        if not results:
            raise DeviceError(
                f"Micro-Manager on port {self._port} has not answered for {limit_s:g} s"
            )
        return results[0]

    def _read(self) -> float:
        return float(self._core.get_property(self._device, self._property))


def _pycromanager(port: int) -> Any:
    module = require("pycromanager", "The dead man of a bridge", "pycromanager")
    return module.Core(port=port)
