"""Laws that hold a density, on the same virtual samples.

Ours (the real estimator, controller, guard and loop, one setting for all samples)
against the laws of htSMLM and ALICA, written from their formulas, and an oracle that
knows the emitters left (what blinking alone leaves). The gains and periods of the
others are the best (RMS) of a grid on seeds that are not used afterwards; htSMLM is
shown with the settings it is delivered with, too. "blinkloop, copied" has the number
that its counter gives at the target on that structure (`--target now`), as htSMLM as
delivered has its own; "blinkloop" is told the density and nothing else.

    python benchmarks/closed_loop.py --seeds 5 --figure closed_loop.png

With `--rows FILE` every row is kept as soon as it is there, and those that the file
already has are not run again: go on after a break, or share the cases out.

See docs/closed-loop.md for what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from closed_loop_laws import Alica, HtSmlm, Oracle, Ours
from closed_loop_sample import (
    FPS,
    TARGET,
    Case,
    Law,
    blinking_floor,
    counted_share,
    feedback_floor,
    score,
    simulate,
)
from kept_rows import KeptRows

CASES = (
    Case("start x0.29"),
    Case("start x3.5", 3.5),
    Case("activation x2 at 25 s, x0.7 at 42 s", 1.0, ((25.0, 2.0), (42.0, 0.7))),
    Case("bleaching 10 % only", bleached=0.1),
    Case("bleaching 90 %", bleached=0.9),
    Case("filaments", structure="filaments"),
    Case("rings", structure="rings"),
    Case("clusters", structure="clusters"),
    Case("on-time 2, delay 0", on_frames=2.0, delay_frames=0),
    Case("on-time 5, delay 25", on_frames=5.0, delay_frames=25),
    Case("on-time 10, delay 4", on_frames=10.0),
    Case("on-time 10, delay 25", on_frames=10.0, delay_frames=25),
    Case("on-time 25, delay 15, x3.5", 3.5, on_frames=25.0, delay_frames=15),
)
TUNED_ON = CASES[:3]
GRIDS: dict[str, list[tuple[float, ...]]] = {
    "htSMLM": list(product((0.05, 0.1, 0.2, 0.4, 0.8), (5, 12, 25))),
    "ALICA": list(product((0.1, 0.3, 0.5), (0.2, 0.35, 0.5), (10, 25))),
}
DELIVERED = (0.4, 12.0)
_T95 = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}
"""Student's t, 95 % two-sided, by the number of seeds."""

Maker = Callable[[float, float], Law]
_MAKERS: dict[str, Callable[..., Law]] = {"htSMLM": HtSmlm, "ALICA": Alica}


def with_gains(name: str, gains: tuple[float, ...]) -> Maker:
    """A law with those gains."""
    return lambda start, gone: _MAKERS[name](start, *gains)


def makers(tuned: dict[str, tuple[float, ...]], case: Case) -> dict[str, Maker]:
    """Laws by name, for one sample."""
    copied = TARGET * counted_share(case.structure, case.on_frames)
    return {
        "blinkloop": lambda start, gone: Ours(start),
        "blinkloop, copied": lambda start, gone: Ours(
            start, target=copied, copied=True
        ),
        "htSMLM, delivered": lambda start, gone: HtSmlm(start, *DELIVERED, gone),
        "htSMLM, best": with_gains("htSMLM", tuned["htSMLM"]),
        "ALICA, best": with_gains("ALICA", tuned["ALICA"]),
        "oracle": lambda start, gone: Oracle(),
    }


def tune() -> dict[str, tuple[float, ...]]:
    """Best gains of the other laws: least sum of RMS errors over the first cases."""

    def worth(name: str, gains: tuple[float, ...]) -> float:
        make = with_gains(name, gains)
        return sum(
            score(case, simulate(case, make, 1000))["rms_error"] for case in TUNED_ON
        )

    return {
        name: min(grid, key=lambda gains: worth(name, gains))
        for name, grid in GRIDS.items()
    }


def figure(path: Path, tuned: dict[str, tuple[float, ...]]) -> None:
    """1 s means of the density and the power, first seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [CASES[0], CASES[1], CASES[2], CASES[9]]
    drawing, axes = plt.subplots(
        2, len(shown), figsize=(3.4 * len(shown), 5), sharex=True, sharey="row"
    )
    colours = {
        "htSMLM, delivered": "#D55E00",
        "ALICA, best": "#009E73",
        "blinkloop": "#0072B2",
    }
    for column, case in enumerate(shown):
        top, bottom = axes[:, column]
        top.axhspan(0.95 * TARGET, 1.05 * TARGET, color="0.85")
        for name, colour in colours.items():
            track = simulate(case, makers(tuned, case)[name], 0)
            mean = np.convolve(track.density, np.full(int(FPS), 1 / FPS), "valid")
            top.plot(np.arange(mean.size) / FPS + 0.5, mean, color=colour, lw=1)
            seconds = np.arange(track.power.size) / FPS
            bottom.plot(seconds, track.power, color=colour, lw=0.6, label=name)
        top.set_title(case.name, fontsize=9)
        bottom.set_yscale("log")
        bottom.set_xlabel("time / s")
    axes[0, 0].set_ylabel("true density / µm$^{-2}$\n(1 s means)")
    axes[0, 0].set_ylim(0.3, 0.8)
    axes[1, 0].set_ylabel("pulse / µs")
    axes[1, -1].legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)


def row_of(case: Case, name: str, scores: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the seeds; the worst settling and overshoot; 95 % of the RMS."""
    row: dict[str, Any] = {
        key: float(np.mean([s[key] for s in scores])) for key in scores[0]
    }
    row["settling_s"] = max(s["settling_s"] for s in scores)
    row["overshoot"] = max(s["overshoot"] for s in scores)
    rms = [s["rms_error"] for s in scores]
    n = len(rms)
    row["rms_95"] = math.nan
    if n > 1:
        row["rms_95"] = _T95.get(n, 2.0) * float(np.std(rms, ddof=1)) / math.sqrt(n)
    return {"case": case.name, "law": name, "seeds": n, **row}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| sample | law | settling, s | overshoot | mean error | RMS, % | expected "
        "| dose |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        settled = row["settling_s"]
        lines.append(
            f"| {row['case']} | {row['law']} | "
            f"{'never' if math.isinf(settled) else f'{settled:.1f}'} | "
            f"{100 * row['overshoot']:.0f} % | {100 * row['mean_error']:+.1f} % | "
            f"{100 * row['rms_error']:.2f} ± {100 * row['rms_95']:.2f} | "
            f"{100 * row['expected_rms']:.1f} % | {row['dose']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--cases", type=int, nargs="*", help="Numbers from 0.")
    parser.add_argument("--laws", nargs="*", help="Names; default: all.")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--gains", type=json.loads, help="JSON of an earlier run.")
    parser.add_argument("--rows", type=Path, help="JSON lines, one per row.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    tuned = options.gains or tune()
    kept = KeptRows(options.rows)
    rows: list[dict[str, Any]] = []
    cases = CASES if options.cases is None else [CASES[i] for i in options.cases]
    for case in cases:
        for name, make in makers(tuned, case).items():
            if options.laws is not None and name not in options.laws:
                continue
            first, n = options.first_seed, options.seeds
            key = {"case": case.name, "law": name, "seeds": n, "first_seed": first}
            row = kept.find(key)
            if row is None:
                seeds = range(first, first + n)
                scores = [score(case, simulate(case, make, seed)) for seed in seeds]
                row = {**key, **row_of(case, name, scores)}
                kept.add(row)
            rows.append(row)
            sys.stderr.write(table([row]).splitlines()[-1] + "\n")
    if options.figure:
        figure(options.figure, tuned)
    took_s = time.perf_counter() - began
    if options.json:
        record = {"gains": tuned, "rows": rows, "took_s": took_s}
        sys.stdout.write(json.dumps(record) + "\n")
        return
    floors = ", ".join(
        f"{tau:g}: {100 * blinking_floor(tau, int(FPS)):.2f} %" for tau in (2, 3, 5, 10)
    )
    least = ", ".join(
        f"{tau:g}, {delay}: {100 * feedback_floor(tau, delay, int(FPS)):.2f} %"
        for tau, delay in ((2, 0), (3, 4), (5, 25), (10, 4), (10, 25))
    )
    sys.stdout.write(
        f"gains {json.dumps(tuned)}, {options.seeds} seeds, {took_s:.0f} s\n"
        f"blinking alone leaves, by on-time: {floors}\n"
        f"no law can leave less than, by on-time, delay: {least}\n\n{table(rows)}"
    )


if __name__ == "__main__":
    main()
