"""The account of a run: every frame is localized, skipped or lost, and each is named.

    seen = highest number - first number + 1 + lost after the last one
    seen = localized + skipped + lost

The four numbers are counted in different places (numbers by the camera thread, results
as they come out, drops by the hand-over and the analysis, jumps between numbers), so
the sum can be wrong, and the program says so when it is.

Design notes: knows frame numbers only, neither pixels nor threads nor files.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from blinkloop.errors import DeviceError
from blinkloop.runtime.records import Gap

__all__ = [
    "ANALYSIS_FAILED",
    "LOST",
    "LOST_AT_END",
    "Account",
    "Ledger",
    "missing_by_stage",
]

LOST = "lost: the source's frame numbers jump"
LOST_AT_END = "lost: after the last frame, as the source says"
ANALYSIS_FAILED = "skipped: the analysis gave no result"


@dataclass(frozen=True, slots=True)
class Account:
    """Where the frames of a run went.

    Parameters
    ----------
    seen, delivered, localized, skipped, lost
        Frames: numbered by the source; handed over by it; with a result; delivered
        without a result; never delivered.
    gaps
        Every skipped and lost frame, sorted by number.
    problems
        One line per sum that is wrong; empty when every frame is accounted for.
    end
        One past the highest frame number, those lost at the end included.
    """

    seen: int
    delivered: int
    localized: int
    skipped: int
    lost: int
    gaps: tuple[Gap, ...]
    problems: tuple[str, ...]
    end: int


def missing_by_stage(gaps: Sequence[Gap]) -> dict[str, int]:
    """Frames missing per stage of the way of a frame: core, handover, analysis."""
    counts = {"core": 0, "handover": 0, "analysis": 0}
    for gap in gaps:
        if gap.reason.startswith("lost"):
            counts["core"] += gap.count
        elif gap.reason == ANALYSIS_FAILED:
            counts["analysis"] += gap.count
        else:
            counts["handover"] += gap.count
    return counts


class Ledger:
    """Counts frames as they pass; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: int | None = None
        self._last = -1
        self._delivered = 0
        self._jumped = 0
        self._lost_at_end = 0
        self._localized = 0
        self._dropped = 0
        self._failed = 0
        self._pending: deque[tuple[int, float]] = deque()
        self._gaps: list[Gap] = []
        self._foreign = 0

    def arrived(self, index: int) -> Gap | None:
        """Book a frame the source delivered; the gap before it, if numbers jump.

        Raises
        ------
        DeviceError
            The number is not above the one before; the frame is not booked.
        """
        with self._lock:
            gap = None
            if self._first is None:
                if index < 0:
                    raise DeviceError(f"the source counts from 0, got frame {index}")
                self._first = index
            elif index <= self._last:
                raise DeviceError(
                    f"frame {index} came after frame {self._last}; frame numbers must "
                    f"rise, or frames cannot be told apart; restart the acquisition"
                )
            elif index > self._last + 1:
                count = index - self._last - 1
                self._jumped += count
                gap = Gap(self._last + 1, count, LOST)
            self._last = index
            self._delivered += 1
            return gap

    def lost_at_end(self, count: int) -> Gap | None:
        """Book frames the source lost after its last one."""
        if count <= 0:
            return None
        with self._lock:
            self._lost_at_end = count
            return Gap(self._last + 1, count, LOST_AT_END)

    def missing(self, gap: Gap) -> None:
        """List a gap that reached the analysis."""
        with self._lock:
            self._gaps.append(gap)

    def pushed(self, indices: Sequence[int], arrived_s: Sequence[float]) -> None:
        """Book frames handed to the localizer, and when each had come."""
        with self._lock:
            self._pending.extend(zip(indices, arrived_s, strict=True))

    def localized(self, indices: Sequence[int]) -> tuple[list[float], list[Gap]]:
        """Book results in order.

        Returns
        -------
        arrived_s
            When the frame of each result had come.
        gaps
            Frames the localizer passed over without a result.
        """
        times: list[float] = []
        gaps: list[Gap] = []
        with self._lock:
            for index in indices:
                while self._pending and self._pending[0][0] < index:
                    gaps.append(self._fail(self._pending.popleft()[0]))
                if self._pending and self._pending[0][0] == index:
                    times.append(self._pending.popleft()[1])
                    self._localized += 1
                else:
                    self._foreign += 1
        return times, gaps

    def fail_pending(self) -> list[Gap]:
        """Book frames in the localizer as skipped: no result will come."""
        with self._lock:
            gaps: list[Gap] = []
            while self._pending:
                gap = self._fail(self._pending.popleft()[0])
                if gaps and gaps[-1].first + gaps[-1].count == gap.first:
                    gap = Gap(gaps[-1].first, gaps.pop().count + 1, gap.reason)
                gaps.append(gap)
            return gaps

    def close(self, dropped: int) -> Account:
        """The account, with `dropped` frames counted by the hand-over itself."""
        with self._lock:
            self._dropped = dropped
            return self._account()

    def counts(self, dropped: int) -> tuple[int, int, int, int]:
        """Seen, localized, skipped, lost so far; frames on their way are in seen."""
        with self._lock:
            seen, lost = self._seen(), self._jumped + self._lost_at_end
            return seen, self._localized, dropped + self._failed, lost

    def _seen(self) -> int:
        numbered = 0 if self._first is None else self._last - self._first + 1
        return numbered + self._lost_at_end

    def _fail(self, index: int) -> Gap:
        self._failed += 1
        return Gap(index, 1, ANALYSIS_FAILED)

    def _account(self) -> Account:
        seen, localized = self._seen(), self._localized
        skipped = self._dropped + self._failed
        lost = self._jumped + self._lost_at_end
        listed = sum(gap.count for gap in self._gaps)
        problems = []
        if seen != localized + skipped + lost:
            problems.append(
                f"{seen} frames seen but {localized} localized + {skipped} skipped + "
                f"{lost} lost"
            )
        if self._delivered != localized + skipped:
            problems.append(
                f"{self._delivered} frames delivered but {localized} localized + "
                f"{skipped} skipped"
            )
        if listed != skipped + lost:
            problems.append(
                f"the gaps list {listed} frames but {skipped} were skipped and {lost} "
                f"lost"
            )
        if self._foreign:
            problems.append(f"{self._foreign} results belong to no frame handed in")
        gaps = tuple(sorted(self._gaps, key=lambda gap: gap.first))
        return Account(
            seen=seen,
            delivered=self._delivered,
            localized=localized,
            skipped=skipped,
            lost=lost,
            gaps=gaps,
            problems=tuple(problems),
            end=self._last + 1 + self._lost_at_end,
        )
