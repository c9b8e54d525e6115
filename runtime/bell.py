"""Wakes the one thread that waits for something.

Design notes: what `threading.Condition` does, for a single waiter and without its
bookkeeping in Python, which a frame would wait for twice.
"""

from __future__ import annotations

import threading

__all__ = ["Bell"]


class Bell:
    """Belongs to a lock that is held, once, by whoever calls its methods.

    Parameters
    ----------
    lock
        Guards what is waited for.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._waiting = False
        self._token = threading.Lock()
        self._token.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, if there is one."""
        if self._waiting:
            self._waiting = False
            self._token.release()

    def wait(self, timeout: float | None = None) -> None:
        """Give up the lock until the bell rings, for `timeout` seconds at most."""
        self._waiting = True
        self._lock.release()
        rung = False
        try:
            rung = self._token.acquire(True, -1 if timeout is None else timeout)
        finally:
            self._lock.acquire()
            if not rung and not self._waiting:
                self._token.acquire()  # it rang between the two
            self._waiting = False
