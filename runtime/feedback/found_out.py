"""What a laser's answers are like: how late, how rounded. Found out when it is armed.

Some values at and below the start value are written and read back, with time to settle.
A laser that takes whole per cents, or reports what it was told a moment ago, is told
from one that does not obey, and the guard's comparison is set to what was seen, within
bounds. What does not fit is refused, with the option that helps.

Design notes
------------
Nothing above the start value is written. Rounding is believed when one step of 1, 2 or
5 x 10^n explains every reading and is at most 2 % of the largest power, or when no
reading is off by more than 0.5 % of it (8 bit). Nothing is concluded from a reading
that could be that of the safe value, or that never changed: that laser may be deaf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from blinkloop.runtime.feedback.limits import MOST_SETTLE_S, LaserLimits
from blinkloop.runtime.feedback.port import LaserPort

__all__ = ["find_out", "patient"]

_SHARES = (1.0, 0.382, 0.854)
"""Of the start value: no decimal step fits them all by chance."""
_POLL_S, _UNCHANGED_S = 0.01, 0.5
_MOST_STEP, _MOST_OFF = 0.02, 0.005
"""Shares of the largest power."""
_TIMES, _LEAST_SETTLE_S = 3.0, 0.2
"""A laser that was late once is given so many times as long, and at least that."""


def find_out(
    port: LaserPort,
    given: LaserLimits,
    start_value: float,
    record: Callable[[float, float], object],
    wanted: Callable[[], bool],
) -> tuple[str | None, str]:
    """Write, read, and set the port's limits to what the laser does.

    Parameters
    ----------
    port
        Of a laser that may be on.
    given
        Limits; what they say of its answers is not found out.
    start_value
        Within the limits; the first and largest value written.
    record
        Takes every value written and what was read.
    wanted
        False = the laser has been made safe; no more is written.

    Returns
    -------
    tuple
        What is wrong, None = nothing; and what was found, empty = an exact laser.
    """
    if not given.read_back:
        return None, ""
    # Until it is known, also for a safe value that is needed in between.
    port.limits = patient(given)
    seen: list[tuple[float, float]] = []
    lags: list[float] = []
    before = first = port.read()
    for share in _SHARES:
        value = given.clamp(share * start_value)
        if not wanted():
            break
        error, read = port.put(value)
        if error is not None:
            return error, ""
        read, lag_s = _settled(port, value, read)
        if not given.matches(value, before):  # else nobody can tell when it changed
            lags.append(lag_s)
        seen.append((value, read))
        record(value, read)
        before = read
    port.forget()
    if not wanted():
        return "made safe while its answers were being found out", ""
    settle_s = _settle_s(lags) if given.settle_s == 0 else given.settle_s
    found: dict[str, float | None] = {"settle_s": settle_s}
    if not all(given.matches(value, read) for value, read in seen):
        step, off = _rounding(seen, first, given)
        if step is None and off is None:
            return _refusal(seen, given, start_value), ""
        found |= {"resolution": step} if step is not None else {"accuracy": off}
    port.limits = given.model_copy(update=found)
    return None, _in_words(port.limits, given)


def patient(limits: LaserLimits) -> LaserLimits:
    """The same for a laser of which nothing is known: it may be as late as any."""
    return limits.model_copy(update={"settle_s": limits.settle_s or MOST_SETTLE_S})


def _settled(port: LaserPort, value: float, read: float) -> tuple[float, float]:
    """The reading once it is the value, or does not change any more; and when that was.

    s from the write on; 0 when it was the first.
    """
    limits, began_s = port.limits, port.clock()
    changed_s, lag_s = began_s, 0.0
    for _ in range(math.ceil(MOST_SETTLE_S / _POLL_S)):
        now_s = port.clock()
        if limits.matches(value, read) or now_s - changed_s > _UNCHANGED_S:
            break
        if now_s - began_s > MOST_SETTLE_S:
            break
        port.sleep(_POLL_S)
        was, read = read, port.read()
        if read != was:
            changed_s = port.clock()
            lag_s = changed_s - began_s
    return read, lag_s


def _settle_s(lags: Sequence[float]) -> float:
    """How long it is to be given; all of it when nothing was learned."""
    if not lags:
        return MOST_SETTLE_S
    if max(lags) == 0:
        return 0.0
    return min(max(_TIMES * max(lags), _LEAST_SETTLE_S), MOST_SETTLE_S)


def _rounding(
    seen: Sequence[tuple[float, float]], first: float, limits: LaserLimits
) -> tuple[float | None, float | None]:
    """The step, or how far off (share of the largest value); None = neither fits."""
    readings = [read for _, read in seen]
    if not all(map(math.isfinite, readings)) or limits.resolution is not None:
        return None, None
    largest, changed = limits.max_value, len({first, *readings}) > 1
    start, answer = seen[0]
    if not changed or limits.matches(limits.safe_value, answer):
        return None, None
    step = _step(seen, _MOST_STEP * largest)
    if step is not None:
        return step, None
    off = max(abs(read - value) for value, read in seen)
    # 1.5: a laser that stays dark must not pass for one that is a little off.
    far = start - limits.safe_value > 1.5 * _MOST_OFF * largest
    return None, (_MOST_OFF if far and off <= _MOST_OFF * largest else None)


def _step(seen: Sequence[tuple[float, float]], largest: float) -> float | None:
    """The smallest of 1, 2, 5 x 10^n, at most that, which explains all readings."""
    top = math.floor(math.log10(largest))
    for power in range(top - 4, top + 2):
        for digit in (1, 2, 5):
            step = float(f"{digit}e{power}")
            if step <= largest * (1 + 1e-9) and all(
                _is_rounded(value, read, step) for value, read in seen
            ):
                return step
    return None


def _is_rounded(value: float, read: float, step: float) -> bool:
    """Whether a laser of that step may report that: the nearest, or the one below."""
    small = 1e-6 * step
    steps = read / step
    if abs(steps - round(steps)) > 1e-6 * max(abs(steps), 1.0):
        return False
    return -small <= value - read < step or abs(value - read) <= 0.5 * step + small


def _refusal(
    seen: Sequence[tuple[float, float]], limits: LaserLimits, start_value: float
) -> str:
    value, read = max(seen, key=lambda pair: abs(pair[1] - pair[0]))
    if limits.resolution is not None and start_value < limits.resolution:
        return (
            f"reports {read:g} after {value:g} was written, less than one step of "
            f"{limits.resolution:g}; give a start power of at least one step "
            f"(--start-power)"
        )
    finite = all(math.isfinite(read) for _, read in seen)
    step = _step(seen, start_value) if finite and seen[0][1] > 0 else None
    if step is not None and limits.resolution is None:
        return (
            f"reports {read:g} after {value:g} was written; if it takes steps of "
            f"{step:g}, which is more than {_MOST_STEP:.0%} of the largest power, say "
            f"so (--laser-step {step:g})"
        )
    return (
        f"reports {read:g} after {value:g} was written; if it takes steps only, give "
        f"the step (--laser-step) and a start power of at least one (--start-power); "
        f"if it reports later than {MOST_SETTLE_S:g} s, or something else altogether, "
        f"it cannot be watched"
    )


def _in_words(found: LaserLimits, given: LaserLimits) -> str:
    words = []
    if found.resolution != given.resolution:
        words.append(f"takes steps of {found.resolution:g}")
    if found.accuracy != given.accuracy:
        words.append(f"is off by up to {found.accuracy:.1%} of the largest value")
    if found.settle_s != given.settle_s:
        words.append(f"reports late: it is given {found.settle_s:.2g} s")
    return "; ".join(words)
