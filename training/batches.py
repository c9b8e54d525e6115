"""Batches made in a thread of their own while the network is trained."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from blinkloop.training.simulate import Batch

__all__ = ["BatchAhead", "stream_number"]

_MOST_RANKS = 4096


def stream_number(restarts: int, rank: int) -> int:
    """Random stream of a process after so many restarts.

    0 for a plain run. Never odd: stream 1 is the validation's.
    """
    return 2 * (_MOST_RANKS * restarts + rank)


class BatchAhead:
    """Gives batches by (iteration, stream) and makes the next one meanwhile.

    Parameters
    ----------
    make
        Makes the batch of (iteration, stream).
    """

    def __init__(self, make: Callable[[int, int], Batch]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._waiting: tuple[tuple[int, int], Future[Batch]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def get(self, iteration: int, stream: int) -> Batch:
        """The batch asked for; the one after it is begun."""
        wanted = (iteration, stream)
        if self._waiting is not None and self._waiting[0] == wanted:
            future = self._waiting[1]
        else:
            future = self._pool.submit(self._make, *wanted)
        batch = future.result()
        after = (iteration + 1, stream)
        self._waiting = (after, self._pool.submit(self._make, *after))
        return batch
