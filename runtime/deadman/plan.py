"""What a dead man is to do, in a form that goes through a pipe."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

__all__ = ["DeadManPlan", "SafeAction"]


class SafeAction(Protocol):
    """Brings one laser to its safe value through a connection of its own."""

    @property
    def needs_owner_gone(self) -> bool:
        """True when the device can be open in one process only."""
        ...

    def prepare(self) -> None:
        """Do everything that needs no device. Raises when `act` could never work."""
        ...

    def act(self) -> str:
        """Set the safe value and read it back; what was done. Raises if it failed."""
        ...


@dataclass(frozen=True, slots=True)
class DeadManPlan:
    """What the process is told at its start.

    Parameters
    ----------
    action
        "module:callable"; called with `settings`, it returns a `SafeAction`.
    settings
        Keywords for it, JSON-serializable.
    log
        File of JSON lines, one per event, `time_s` since 1970; "" = none.
    hang_s
        Without a heartbeat for so long the owner counts as hung.
    kill_s
        A hung owner that holds the device alone is ended then. A process that cannot
        run its watchdog has no hold on its laser either.
    retry_s
        Time between attempts.
    give_up_s
        Attempts end after that.
    owner_pid
        Of the process that is watched.
    """

    action: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    hang_s: float = 2.0
    kill_s: float = 5.0
    retry_s: float = 0.1
    give_up_s: float = 60.0
    owner_pid: int = field(default_factory=os.getpid)

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> DeadManPlan:
        """Read what `to_line` wrote."""
        return cls(**json.loads(line))

    def make_action(self) -> SafeAction:
        """Import and make the action."""
        module, _, name = self.action.partition(":")
        factory = getattr(importlib.import_module(module), name)
        return cast("SafeAction", factory(**self.settings))
