"""`--remove-static-light` of the verbs: beads go, emitters stay, and files say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from spot_helpers import HEIGHT, WIDTH, spot
from verb_helpers import Verb, assert_same_table

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._corrections import correct_again
from blinkloop.cli._fit_resume import identity_of
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.integrations.formats import read_table
from blinkloop.integrations.movies import RawMovie, frame_roi
from blinkloop.runtime import Frame
from blinkloop.runtime.sinks import LiveStoreReader

BEAD, EMITTER = (40.0, 12.0), (15.0, 30.0)
CAMERA = ("--baseline", 100, "--e-per-adu", 0.5, "--read-noise", 1.5, "--qe", 1)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A bead that always shines, and an emitter in every third frame."""
    rng = np.random.default_rng(0)
    photons = np.full((100, HEIGHT, WIDTH), 20.0) + spot(*BEAD, 2500)
    photons[::3] += spot(*EMITTER, 2500)
    adu = rng.poisson(photons) / 0.5 + rng.normal(0, 3, photons.shape) + 100
    path = tmp_path / "movie.npy"
    np.save(path, np.clip(np.rint(adu), 0, 65535).astype(np.uint16))
    return path


def frames_with(rows: npt.NDArray[Any], place: tuple[float, float]) -> set[int]:
    near = np.hypot(rows["x_px"] - place[0], rows["y_px"] - place[1]) < 2
    return set(rows["frame"][near].tolist())


def test_fit_finds_emitters_and_no_bead(
    movie: Path, good: Verb, bundled: str, tmp_path: Path
) -> None:
    words = ("fit", movie, "-m", bundled, "--threads", 1, *CAMERA, "--json")
    out = [tmp_path / f"{name}.zarr" for name in ("as_is", "removed", "tiled", "roi")]
    good(*words, "-o", out[0])
    good(*words, "-o", out[1], "--remove-static-light", "--batch", 7)
    good(*words, "-o", out[2], "--remove-static-light", "--tile", "32x32")
    good(*words, "-o", out[3], "--remove-static-light", "--frames", "50:")
    as_is, removed, tiled, part = (read_table(path).data for path in out)
    on = set(range(0, 100, 3))
    assert len(frames_with(as_is, BEAD)) > 95
    assert len(frames_with(removed, BEAD)) < 5
    assert len(frames_with(removed, EMITTER) & on) > 30
    assert_same_table(tiled, removed)
    # What is taken out of a frame does not depend on which frames are wanted.
    assert_same_table(part, removed[removed["frame"] >= 50])
    assert LiveStoreReader(out[1]).meta["static_light_removed"] is True
    assert "static_light_removed" not in LiveStoreReader(out[0]).meta
    # A fit without it is another fit.
    plain = identity_of({}, {"backend": "b"}, {})
    kept = identity_of({}, {"backend": "b", "static_light_removed": True}, {})
    assert kept == {**plain, "static_light_removed": True}


def test_a_short_movie_is_fitted_as_it_is(
    movie: Path, good: Verb, model: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.npy"
    np.save(short, np.load(movie)[:15])
    out = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    words = ("fit", short, "-m", model, "--threads", 1)
    said = good(*words, "-o", out[0], "--remove-static-light")
    good(*words, "-o", out[1])
    assert "it takes 16 frames to tell, the movie has 15" in said.err
    assert_same_table(*(read_table(path).data for path in out))


def test_replay_learns_from_its_first_frames_and_is_completed_without_the_bead(
    movie: Path, good: Verb, bundled: str, tmp_path: Path
) -> None:
    pytest.importorskip("yaozarrs", reason="needs the extra `raw`")
    words = ("-m", bundled, "--fps", 50, "--threads", 1, "--policy", "every", *CAMERA)
    out = tmp_path / "run"
    record = good(
        "replay", movie, *words, "-o", out, "--remove-static-light", "--json"
    ).json
    assert record["frames_localized"] == 100
    rows = read_table(out / "localizations.zarr").data
    found = frames_with(rows, BEAD)
    assert len([frame for frame in found if frame > 70]) < 3
    assert len(frames_with(rows, EMITTER) & set(range(0, 100, 3))) > 30
    assert LiveStoreReader(out / "localizations.zarr").meta["static_light_removed"]
    with RawMovie(out / "raw.ome.zarr") as raw:
        session = open_session(
            resolve_model(bundled), CameraFlags(), raw.facts(), source="movie"
        )
        as_run = correct_again(session, raw.store.meta, raw, lambda: raw)
        pixels = raw.read(40, 42)
        pushed = [Frame(40 + n, 0.0, pixels[n], frame_roi(raw)) for n in range(2)]
        results = [*as_run.localizer.push(pushed), *as_run.localizer.flush()]
        assert not frames_with(results[1].localizations, BEAD)
        assert correct_again(session, {}, raw, lambda: raw) is session
        session.localizer.close()
