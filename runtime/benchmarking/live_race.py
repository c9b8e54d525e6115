"""What a live run would see of each backend: one frame per call, a core left free.

Design notes: an offline batch says little about it. With every core the network and
the camera take turns, and a backend that is fast with 16 frames may be slow with one.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LiveRace"]

_AS_FAST = 1.2
"""Times the shortest call: backends so fast count as equal, memory decides then. They
change places within as much from one hour of a shared machine to the next."""


class LiveRace(BaseModel):
    """Times of one run in which all backends took turns.

    Parameters
    ----------
    height, width
        Of the frames, px.
    threads
        Of one call.
    frame_ms
        Backend -> median time of a call with one frame.
    memory_mb
        Backend -> largest resident memory of a process that ran nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int
    width: int
    threads: int
    frame_ms: dict[str, float]
    memory_mb: dict[str, float] = Field(default_factory=dict)

    def best(self, among: Iterable[str]) -> str | None:
        """The fastest; of those about as fast, the one with the least memory.

        Parameters
        ----------
        among
            Backends that may be taken.

        Returns
        -------
        str or None
            None when none of them was measured.
        """
        times = {name: self.frame_ms[name] for name in among if name in self.frame_ms}
        if not times:
            return None
        limit = _AS_FAST * min(times.values())
        fast = [name for name, time in times.items() if time <= limit]
        unknown = float("inf")
        return min(fast, key=lambda n: (self.memory_mb.get(n, unknown), times[n]))
