"""`blinkloop convert`, through the frame of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from blinkloop.cli import main
from blinkloop.integrations.formats import read_table, write_table
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

pytest.importorskip("h5py", reason="Picasso tables are HDF5")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = np.zeros(3, LOCALIZATION_DTYPE)
    rows["x_px"] = [1, 2, 3.5]
    return write_table(
        LocalizationTable(rows, {"pixel_size_nm": 110.0}), tmp_path / "a.hdf5"
    )[0]


def test_convert(table: Path) -> None:
    target = table.with_name("b.csv")
    done = CliRunner().invoke(main, ["convert", str(table), str(target), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["localizations"] == 3
    np.testing.assert_allclose(read_table(target).data["x_px"], [1, 2, 3.5])
    again = CliRunner().invoke(main, ["convert", str(table), str(target)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    forced = CliRunner().invoke(
        main,
        ["convert", str(table), str(target), "--overwrite", "--pixel-size-nm", "200"],
    )
    assert forced.exit_code == 0
    assert "300.000" in target.read_text()


@pytest.mark.parametrize("name", ["b_sml.mat", "b.decode.h5", "b.parquet"])
def test_convert_there_and_back(name: str, table: Path) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    target, back = table.with_name(name), table.with_name("c.csv")
    for source, out in ((table, target), (target, back)):
        done = CliRunner().invoke(main, ["convert", str(source), str(out)])
        assert done.exit_code == 0, done.output
    read = read_table(back)
    np.testing.assert_allclose(read.data["x_px"], [1, 2, 3.5], atol=1e-6)
    assert read.meta["pixel_size_nm"] == 110


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.csv", "b.hdf5"], "no such table"),
        (["a.hdf5", "b.txt"], "no table can be written"),
        (["a.hdf5", "b.txt"], ".decode.h5 (DECODE), .hdf5 (Picasso HDF5), .csv"),
        (["a.hdf5", "a.hdf5"], "into itself"),
    ],
    ids=["missing", "ending", "endings", "itself"],
)
def test_bad_usage(
    arguments: list[str], says: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    done = CliRunner().invoke(main, ["convert", *arguments])
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
