"""Hot pixels in a run: said in one line, and kept out of the other checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import Session, open_session
from blinkloop.cli._suitability import Suitability
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.runtime import FrameResult, Roi
from blinkloop.schema import LOCALIZATION_DTYPE, GaussianPsfSettings

ROI = Roi(40, 7, 121, 83)
"""On the chip; hot pixels are said in its coordinates."""
HOT = [(0, 30), (25, 20), (26, 20), (90, 82), (100, 40), (60, 61)]
PHOTONS = 2500.0


class Kept:
    """A tap that kept some frames."""

    kept_origin = (ROI.x, ROI.y)

    def __init__(self, frames: Sequence[npt.NDArray[Any]]) -> None:
        self._frames = frames

    def take(self, index: int) -> npt.NDArray[Any] | None:
        """Frames as long as there are some."""
        return self._frames[index] if index < len(self._frames) else None


@pytest.fixture(scope="module")
def session() -> Session:
    model = Path(__file__).parent.parent / "golden" / "tiny_half.onnx"
    return open_session(
        model, CameraFlags(), {}, source="movie", backend="onnxruntime-cpu", threads=1
    )


def watch(
    session: Session,
    n_frames: int,
    hot: Sequence[tuple[int, int]] = (),
    *,
    static: bool = False,
    feedback: bool = False,
) -> Suitability:
    """A check that saw emitters, and three detections around every hot pixel."""
    rng = np.random.default_rng(1)
    camera, psf = Camera(session.camera.settings), session.model.card.psf
    assert isinstance(psf, GaussianPsfSettings)
    frame = np.repeat(np.arange(n_frames), 12)
    x = rng.uniform(0, ROI.width - 1, len(frame))
    y = rng.uniform(0, ROI.height - 1, len(frame))
    z = rng.uniform(*psf.z_range_nm, len(frame))
    if static:
        x, y, z = (np.tile(values[:12], n_frames) for values in (x, y, z))
    n = np.full(len(frame), PHOTONS)
    light = GaussianPsf(psf).render(x, y, z, n, frame, n_frames, ROI.height, ROI.width)
    adu = np.asarray(camera.forward(np.asarray(light) + 20, rng))
    for column, row in hot:
        adu[:, row, column] += 4000
    watched = Suitability(session, Kept(adu.astype(np.uint16)), feedback=feedback)  # type: ignore[arg-type]
    for index in range(n_frames):
        own = frame == index
        columns = np.r_[x[own], [c + d for c, _ in hot for d in (-3, 0, 3)]]
        rows_px = np.r_[y[own], [r for _, r in hot for _ in range(3)]]
        rows = np.zeros(len(columns), LOCALIZATION_DTYPE)
        rows["x_px"], rows["y_px"] = columns + ROI.x, rows_px + ROI.y
        rows["z_nm"] = np.r_[z[own], np.zeros(3 * len(hot))]
        rows["photons"], rows["background_photons"], rows["prob"] = PHOTONS, 20, 0.95
        rows["x_sigma_px"] = rows["y_sigma_px"] = 0.1
        blocks = np.zeros((11, 16), np.float32)
        count = float(len(rows))
        watched.observe(
            [FrameResult(index, 0.0, ROI, 0, rows, False, count, 0.1, blocks)]
        )
    return watched


def test_one_line_says_how_many_where_and_what_to_do(session: Session) -> None:
    watched = watch(session, 40, HOT)
    lines = watched.warnings()
    hot = [line for line in lines if "hot pixel" in line]
    assert len(hot) == 1
    first = ", ".join(f"({x}, {y})" for x, y in [(65, 27), (66, 27), (40, 37)])
    assert (
        f"6 hot pixels of the camera, bright all the time, at (x, y) = {first}"
        in (hot[0])
    )
    assert "(130, 89)" not in hot[0]
    assert "pixel correction" in hot[0]
    assert "feedback" not in hot[0]
    facts = watched.facts()
    assert facts["hot_pixels"] == 6
    assert facts["hot_pixels_px"][-1] == (130, 89)
    um2 = ROI.width * ROI.height * (session.camera.settings.pixel_size_nm / 1e3) ** 2
    assert facts["density_per_um2"] == pytest.approx(30 / um2)
    assert facts["hot_pixels_density_per_um2"] == pytest.approx(18 / um2, rel=0.1)


def test_who_holds_the_density_is_told(session: Session) -> None:
    line = watch(session, 20, HOT[:1], feedback=True).warnings()[0]
    assert "1 hot pixel of" in line
    assert "feedback holds too few" in line


def test_nothing_else_is_blamed(session: Session) -> None:
    clean, hot = watch(session, 60), watch(session, 60, HOT)
    others = [line for line in hot.warnings() if "hot pixel" not in line]
    assert others == clean.warnings()
    correlation = hot.facts()["psf_correlation"]
    assert correlation == pytest.approx(clean.facts()["psf_correlation"], abs=3e-3)
    assert correlation > 0.99


@pytest.mark.parametrize("static", [False, True])
def test_emitters_alone_give_no_line(session: Session, static: bool) -> None:
    watched = watch(session, 40, static=static)
    assert not [line for line in watched.warnings() if "hot" in line]
    assert watched.facts()["hot_pixels"] == 0
    assert watched.facts()["hot_pixels_px"] == []


@pytest.mark.parametrize(
    ("n_frames", "found"), [(1, 0), (4, 0), (5, 6), (7, 6), (90, 6)]
)
def test_any_length(session: Session, n_frames: int, found: int) -> None:
    watched = watch(session, n_frames, HOT)
    lines = [line for line in watched.warnings() if "hot pixel" in line]
    assert len(lines) == bool(found)
    assert watched.facts()["hot_pixels"] == found
    assert watched.facts()["frames"] == n_frames


def test_without_frames(session: Session) -> None:
    watched = watch(session, 0)
    assert not [line for line in watched.warnings() if "hot" in line]
    assert watched.facts()["hot_pixels"] is None
