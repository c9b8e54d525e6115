"""The logs: columns, old files, sessions that were lost."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.training import log as log_module
from blinkloop.training.log import CsvLog, TensorBoardLog
from blinkloop.training.progress import LOSS_TERMS, Progress


def progress(iteration: int, **more: object) -> Progress:
    terms = dict(zip(LOSS_TERMS, (1.0, 2.0, 3.0, float(iteration)), strict=True))
    known = {"terms": terms, "learning_rate": 1e-3}
    return Progress(iteration, 20, 10.0 + iteration, 5.0, 0.1, **{**known, **more})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_means_with_every_term(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv", every=5)
    for i in range(1, 21):
        log(progress(i, validation={"nll": 7.0} if i == 7 else None))
    found = rows(tmp_path / "log.csv")
    assert [row["iteration"] for row in found] == ["5", "7", "10", "15", "20"]
    np.testing.assert_allclose(float(found[0]["loss"]), 13.0)
    np.testing.assert_allclose(float(found[1]["background"]), 6.5)
    np.testing.assert_allclose(float(found[2]["background"]), 9.0)
    assert [row["nll"] for row in found] == ["", "7", "", "", ""]
    assert {row["learning_rate"] for row in found} == {"0.001"}
    assert set(LOSS_TERMS) < set(found[0])


def test_log_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("iteration,loss,jaccard\n5,2.5,0.25\n10,2.0,0.5\n")
    CsvLog(path, iteration=10, every=5)(progress(15))
    found = rows(path)
    assert [row["iteration"] for row in found] == ["5", "10", "15"]
    assert [row["jaccard"] for row in found] == ["0.25", "0.5", ""]
    assert [row["count"] for row in found] == ["", "", "1"]


def test_rows_after_the_checkpoint_are_dropped_but_failed_attempts_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.csv"
    first = CsvLog(path, every=5)
    for i in (5, 10, 15):
        first(progress(i))
    for i in (10, 15):
        first(progress(i, restarts=1))
    with path.open("a") as file:
        file.write("2")  # cut short by a crash
    CsvLog(path, iteration=10, restarts=1)
    found = [(row["iteration"], row["restarts"]) for row in rows(path)]
    assert found == [("5", "0"), ("10", "0"), ("15", "0"), ("10", "1")]


def test_no_number_is_written_as_nan(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv", every=1)
    log(progress(1, validation={"rmse_axial_nm": math.nan}))
    assert rows(tmp_path / "log.csv")[0]["rmse_axial_nm"] == "nan"


def test_tensorboard_that_is_absent_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "installed", lambda name: name != "tensorboard")
    with pytest.raises(InputError, match="pip install tensorboard") as caught:
        TensorBoardLog(tmp_path)
    assert "\n" not in str(caught.value)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path, every=5)
    for i in range(1, 11):
        log(progress(i, validation={"nll": 7.0} if i == 7 else None))
    log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = [(e.step, e.value) for e in events.Scalars("training/loss")]
    np.testing.assert_allclose(losses, [(5, 15), (10, 20)])
    np.testing.assert_allclose(
        [(e.step, e.value) for e in events.Scalars("validation/nll")], [(7, 7)]
    )
