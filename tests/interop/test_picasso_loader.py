"""Our tables, read by Picasso's own loaders (package picassosr, extra `interop`).

In a process of its own: Picasso brings Qt, numba and warnings of theirs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.integrations.formats import write_table
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        find_spec("picasso") is None, reason='needs pip install -e ".[interop]"'
    ),
]

LOAD = """
import json, sys
from picasso import io
path, pixel = sys.argv[1], float(sys.argv[2])
if path.endswith(".csv"):
    locs, info = io.import_ts(path, pixel)
else:
    locs, info = io.load_locs(path)
columns = {name: locs[name].tolist() for name in locs.columns}
print("RESULT" + json.dumps({"columns": columns, "info": info}, default=str))
"""
PIXEL_NM = 127.0


def load(path: Path) -> dict[str, Any]:
    """Columns and metadata as Picasso reads them."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), str(PIXEL_NM)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
    return result


def make_table(count: int, *, three_dimensional: bool) -> LocalizationTable:
    """Localizations in a field that is not square."""
    rng = np.random.default_rng(3)
    data = np.zeros(count, LOCALIZATION_DTYPE)
    for name in data.dtype.names or ():
        data[name] = rng.uniform(0.1, 1, count)
    data["frame"] = np.sort(rng.integers(0, 40, count))
    data["x_px"] = rng.uniform(0, 62, count)
    data["y_px"] = rng.uniform(0, 30, count)
    data["z_nm"] = rng.uniform(-400, 400, count) if three_dimensional else 0
    data["photons"] = rng.uniform(500, 5000, count)
    meta = {
        "pixel_size_nm": PIXEL_NM,
        "width_px": 63,
        "height_px": 31,
        "frames": 40,
        "three_dimensional": three_dimensional,
    }
    return LocalizationTable(data, meta)


@pytest.mark.parametrize("three_dimensional", [True, False], ids=["3D", "2D"])
@pytest.mark.parametrize("count", [57, 0], ids=["rows", "empty"])
def test_picasso_loads_our_hdf5(
    tmp_path: Path, count: int, three_dimensional: bool
) -> None:
    table = make_table(count, three_dimensional=three_dimensional)
    path = tmp_path / "locs.hdf5"
    write_table(table, path)
    result = load(path)
    columns, info = result["columns"], result["info"]
    wanted = {"frame", "x", "y", "photons", "sx", "sy", "bg", "lpx", "lpy", "prob"}
    if three_dimensional:
        wanted |= {"z", "lpz"}
    assert wanted <= set(columns)
    assert ("z" in columns) == three_dimensional
    np.testing.assert_array_equal(columns["frame"], table.data["frame"])
    pairs = {"x": "x_px", "y": "y_px", "photons": "photons", "lpx": "x_sigma_px"}
    if three_dimensional:
        pairs["z"] = "z_nm"
    for theirs, ours in pairs.items():
        np.testing.assert_allclose(columns[theirs], table.data[ours], rtol=1e-5)
    assert (info[0]["Width"], info[0]["Height"], info[0]["Frames"]) == (63, 31, 40)
    assert info[1]["Pixelsize"] == PIXEL_NM


def test_picasso_imports_our_thunderstorm_csv(tmp_path: Path) -> None:
    table = make_table(57, three_dimensional=True)
    path = tmp_path / "locs.csv"
    write_table(table, path)
    columns = load(path)["columns"]
    # Picasso cuts the photons of a CSV to whole numbers.
    np.testing.assert_allclose(columns["photons"], table.data["photons"], atol=1)
    # ThunderSTORM counts from the outer corner of a pixel; Picasso takes it as it is.
    shift_px = np.asarray(columns["x"]) - table.data["x_px"]
    np.testing.assert_allclose(shift_px, 0.5, atol=1e-4)
