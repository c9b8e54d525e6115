"""The observers of a run, kept from harming it or each other.

An observer that raises is closed at once (a laser goes to its safe value), named once
and not called again; the run and the other observers go on. Each is closed exactly
once, whatever happens.

Design notes: knows what may be called on an observer, not what one does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from blinkloop.runtime.protocols import Observer
from blinkloop.runtime.records import FrameResult, Gap

__all__ = ["ObserverGroup"]


class ObserverGroup:
    """Calls observers in their order.

    Parameters
    ----------
    observers
        Besides the protocol's methods one may have `afterwards()`, called when all have
        seen some results, `stall(seconds)`, called while the source is silent, and
        `summary()`, a mapping for the report.
    on_failure
        Told once per observer: its name and what it raised.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self._all = tuple(observers)
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._open = list(self._all)
        self._afterwards: list[tuple[Observer, Callable[[], None]]] = []
        for observer in self._all:
            method = getattr(observer, "afterwards", None)
            if method is not None:
                self._afterwards.append((observer, method))

    def observe(self, results: Sequence[FrameResult]) -> None:
        """Hand results on."""
        for observer in tuple(self._open):
            self._guarded(observer, observer.observe, results)

    def afterwards(self) -> None:
        """Say that all have seen the results handed on last."""
        for observer, method in self._afterwards:
            try:
                method()
            except Exception as error:
                self._on_failure(_name(observer), error)
                self._close(observer)

    def gap(self, gap: Gap) -> None:
        """Say that frames are missing."""
        for observer in tuple(self._open):
            self._guarded(observer, observer.gap, gap)

    def stall(self, seconds: float) -> None:
        """Say that the source has been silent for so long."""
        for observer in tuple(self._open):
            method = getattr(observer, "stall", None)
            if method is not None:
                self._guarded(observer, method, seconds)

    def close(self) -> None:
        """Close those still open; each is closed once, from whatever thread."""
        for observer in self._all:
            self._close(observer)

    def summary(self) -> dict[str, Any]:
        """The summaries of all, merged; the first to use a key keeps it."""
        merged: dict[str, Any] = {}
        for observer in self._all:
            method = getattr(observer, "summary", None)
            if method is None:
                continue
            try:
                merged = {**method(), **merged}
            except Exception as error:
                self._on_failure(_name(observer), error)
        return merged

    def _guarded(
        self, observer: Observer, method: Callable[[Any], None], value: Any
    ) -> None:
        try:
            method(value)
        except Exception as error:
            self._on_failure(_name(observer), error)
            self._close(observer)

    def _close(self, observer: Observer) -> None:
        with self._lock:
            # By identity: two observers may compare equal.
            left = [other for other in self._open if other is not observer]
            if len(left) == len(self._open):
                return
            self._open = left
            self._afterwards = [
                entry for entry in self._afterwards if entry[0] is not observer
            ]
        try:
            observer.close()
        except Exception as error:
            self._on_failure(_name(observer), error)


def _name(observer: Observer) -> str:
    return f"observer {type(observer).__name__}"
