"""What `make_loop` makes of the options."""

from __future__ import annotations

from typing import Any

import pytest
from cards import make_card

from blinkloop.cli._feedback import make_loop


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        pytest.param({"field_px": 128 * 128}, 10, id="82 emitters"),
        pytest.param({}, 10, id="size unknown"),
        pytest.param({"field_px": 128 * 128, "target": 0.01}, 30, id="1.6 emitters"),
        pytest.param({"field_px": 32 * 32, "target": 0.01}, 480, id="0.1 emitters"),
        pytest.param({"field_px": 32 * 32, "target": 1e-5}, 1000, id="nearly none"),
        pytest.param({"field_px": 32 * 32, "target": 0.0}, 10, id="dark"),
        pytest.param({"field_px": 32 * 32, "target": "now"}, 10, id="as it is"),
        pytest.param(
            {"field_px": 128 * 128, "region": (0, 0, 10, 10)}, 100, id="region"
        ),
        pytest.param(
            {"field_px": 32 * 32, "target": 0.01, "update_frames": 7}, 7, id="given"
        ),
    ],
)
def test_few_emitters_take_longer_updates(options: dict[str, Any], frames: int) -> None:
    """Averages of 10 frames would be too uncertain ever to act on."""
    base = {"mode": "advise", "target": 0.5, "on_time": 3.0, "update_frames": None}
    loop = make_loop(make_card(), **{**base, **options})
    assert loop._controller.settings.update_frames == pytest.approx(frames, rel=0.05)
    assert loop._estimator.average_frames == loop._controller.settings.update_frames
