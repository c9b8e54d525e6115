"""`--mask-hot-pixels`: as if the pixels had been good, and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.cli._corrected import CorrectedLocalizer
from blinkloop.cli._fit_resume import identity_of
from blinkloop.cli._hot_mask import HotPixelMask, mask_again
from blinkloop.hot_pixels import HotPixels
from blinkloop.integrations.formats import read_table
from blinkloop.integrations.movies import open_movie
from blinkloop.runtime import Frame, FrameResult, Roi, read_live_store
from blinkloop.runtime.sinks import LiveStoreReader

HEIGHT, WIDTH = 26, 37
BORDER = [(36, 3), (12, 9), (13, 9), (5, 25)]
PLACES = [
    pytest.param(BORDER, (), id="border and two adjacent"),
    pytest.param(BORDER, ("--tile", "16x16"), id="in tiles"),
    pytest.param([], (), id="none"),
]
Places = Sequence[tuple[int, int]]


def save(folder: Path, places: Places, n_frames: int = 30) -> tuple[Path, Path]:
    """A movie with hot pixels, and the same with these as the mask shall give them."""
    rng = np.random.default_rng(7)
    frames = rng.poisson(140, (n_frames, HEIGHT, WIDTH)).astype(np.uint16)
    for number in range(n_frames):  # something that blinks
        y, x = rng.integers(3, 20, 2)
        frames[number, y : y + 3, x : x + 3] += 200
    for x, y in places:
        frames[:, y, x] += 4000
    columns, rows = np.array(places or np.empty((0, 2)), int).T
    hot = HotPixels.at(columns, rows, (HEIGHT, WIDTH))
    raw, good = folder / "raw.npy", folder / "good.npy"
    np.save(raw, frames)
    np.save(good, np.stack([hot.repaired(frame) for frame in frames]))
    return raw, good


def as_said(places: Places) -> list[list[int]]:
    return [[x, y] for x, y in sorted(places, key=lambda place: place[::-1])]


@pytest.mark.parametrize(("places", "tiled"), PLACES)
def test_fit_is_that_of_good_pixels(
    places: Places, tiled: tuple[str, ...], good: Verb, model: Path, tmp_path: Path
) -> None:
    raw, repaired = save(tmp_path, places)
    # Bits are compared below: those of OpenVINO depend on how many frames a call took,
    # and so on the time of day.
    words = ("-m", model, "--threads", 1, "--batch", 8, *tiled, "--json")
    words += ("--backend", "onnxruntime-cpu")
    out = [tmp_path / f"{name}.zarr" for name in ("masked", "good", "as_is")]
    said = good("fit", raw, *words, "-o", out[0], "--mask-hot-pixels")
    good("fit", repaired, *words, "-o", out[1])
    good("fit", raw, *words, "-o", out[2])
    masked, wanted, as_is = (read_table(path).data for path in out)
    assert_same_table(masked, wanted)
    assert len(wanted)
    assert (len(as_is) == len(wanted) and bool(np.all(as_is == wanted))) == (not places)
    assert f"{len(places)} hot pixels found and masked" in said.err
    assert not [line for line in said.json["warnings"] if "hot pixel" in line]
    meta = LiveStoreReader(out[0]).meta
    assert meta["hot_pixels_masked"] == as_said(places)
    assert meta["run"]["hot_pixels_masked"] == as_said(places)
    assert "hot_pixels_masked" not in LiveStoreReader(out[2]).meta


def test_fit_of_a_region(good: Verb, model: Path, tmp_path: Path) -> None:
    raw, repaired = save(tmp_path, [(36, 3), (12, 9), (20, 8)])
    words = ("-m", model, "--threads", 1, "--roi", "8,5,17,13", "--json")
    out = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    good("fit", raw, *words, "-o", out[0], "--mask-hot-pixels", "--frames", "3:")
    good("fit", repaired, *words, "-o", out[1], "--frames", "3:")
    assert_same_table(*(read_table(path).data for path in out))


def test_replay_keeps_raw_data_and_accounting(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("yaozarrs", reason="needs the extra `raw`")
    from blinkloop.integrations.movies import RawMovie

    raw, repaired = save(tmp_path, [(0, 8), (12, 9)])
    words = ("-m", model, "--fps", 200, "--threads", 1, "--policy", "every", "--json")
    out = tmp_path / "masked"
    record = good("replay", raw, *words, "-o", out, "--mask-hot-pixels").json
    good("replay", repaired, *words, "-o", tmp_path / "good")
    assert record["frames_seen"] == 30
    assert record["frames_localized"] == 30
    assert record["hot_pixels_masked"] == [[0, 8], [12, 9]]
    assert_same_table(
        read_live_store(out / "localizations.zarr").data,
        read_live_store(tmp_path / "good" / "localizations.zarr").data,
    )
    with RawMovie(out / "raw.ome.zarr") as kept:
        np.testing.assert_array_equal(kept.read(0, 30), np.load(raw))
        meta = kept.store.meta
        again = mask_again(meta, kept)
        assert again is not None
        assert again.places == [(0, 8), (12, 9)]
        found = mask_again({**meta, "hot_pixels_masked": None}, kept)
        assert found is not None
        assert found.places == again.places
        del meta["hot_pixels_masked"]
        assert mask_again(meta, kept) is None


class Keeps:
    """A localizer that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Frame] = []

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Keep them."""
        self.got += frames
        return []

    def flush(self) -> list[FrameResult]:
        """Nothing is due."""
        return []

    def close(self) -> None:
        """Nothing to release."""


def live(frames: npt.NDArray[np.uint16], roi: Roi, first: int = 0) -> list[Frame]:
    return [
        Frame(number, 0.0, pixels, roi) for number, pixels in enumerate(frames, first)
    ]


def test_a_camera_is_masked_once_the_first_frames_were_seen(tmp_path: Path) -> None:
    raw, repaired = (np.load(path) for path in save(tmp_path, [(36, 3), (12, 9)]))
    before = raw.copy()
    keeps, mask = Keeps(), HotPixelMask()
    localizer, roi = CorrectedLocalizer(keeps, mask), Roi(100, 50, WIDTH, HEIGHT)
    given = live(raw, roi)
    localizer.push(given[:10])
    assert mask.places is None
    localizer.push(given[10:])
    assert mask.places == [(136, 53), (112, 59)]
    assert [frame.index for frame in keeps.got] == list(range(30))
    got = np.stack([frame.pixels for frame in keeps.got])
    np.testing.assert_array_equal(got[:16], raw[:16])
    np.testing.assert_array_equal(got[16:], repaired[16:])
    np.testing.assert_array_equal(raw, before)
    # Another region of the chip: they are where they were on it.
    part = live(raw[:2, 1:20, 20:], Roi(120, 51, 17, 19), 30)
    localizer.push(part)
    assert keeps.got[-1].pixels[2, 16] < 400
    assert keeps.got[-1].pixels.shape == (19, 17)
    # Frames that are not what they say go on as they are, to be refused there.
    wrong = Frame(32, 0.0, raw[0], Roi(0, 0, 3, 3))
    localizer.push([wrong])
    assert keeps.got[-1] is wrong


@pytest.mark.parametrize("n_frames", [1, 4])
def test_a_short_movie_has_no_mask(n_frames: int, tmp_path: Path) -> None:
    raw, _ = save(tmp_path, [(12, 9)], n_frames)
    with open_movie(raw) as movie:
        assert HotPixelMask.of_movie(movie).places == []


def test_a_masked_fit_does_not_go_on_with_another() -> None:
    plain = identity_of({}, {"backend": "b"}, {})
    assert "hot_pixels_masked" not in plain
    masked = identity_of({}, {"backend": "b", "hot_pixels_masked": [(1, 2)]}, {})
    assert masked == {**plain, "hot_pixels_masked": [[1, 2]]}
