"""Our tables, read by Locan's loaders and by mat73 (extra `interop`).

In a process of its own: Locan brings warnings of its dependencies.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from blinkloop.integrations.formats import write_table
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        find_spec("locan") is None or find_spec("mat73") is None,
        reason='needs pip install -e ".[interop]"',
    ),
]

LOAD = """
import json, sys
path = sys.argv[1]
if sys.argv[2] == "mat73":
    import mat73
    loc = mat73.loadmat(path)["saveloc"]["loc"]
    columns = {name: values.tolist() for name, values in loc.items()}
else:
    import locan
    load = getattr(locan, sys.argv[2])
    data = load(path).data
    columns = {name: data[name].tolist() for name in data}
print("RESULT" + json.dumps(columns))
"""


def make_table(*, three_dimensional: bool) -> LocalizationTable:
    rng = np.random.default_rng(3)
    data = np.zeros(57, LOCALIZATION_DTYPE)
    for name in data.dtype.names or ():
        data[name] = rng.uniform(0.1, 60, len(data))
    meta = {"pixel_size_nm": 127.0, "three_dimensional": three_dimensional}
    return LocalizationTable(data, meta)


SMAP = {
    "frame": ("frame", 1, 1),
    "phot": ("photons", 1, 0),
    "bg": ("background_photons", 1, 0),
    "xnm": ("x_px", 127, 1),
    "ynm": ("y_px", 127, 1),
    "xnmerr": ("x_sigma_px", 127, 0),
    "photerr": ("photons_sigma", 1, 0),
    "znm": ("z_nm", 1, 0),
    "locprecznm": ("z_sigma_nm", 1, 0),
}
LOCAN_SMAP = {
    "frame": SMAP["frame"],
    "intensity": SMAP["phot"],
    "position_x": SMAP["xnm"],
    "position_y": SMAP["ynm"],
    "position_z": SMAP["znm"],
}
LOCAN_DECODE = {
    "frame": ("frame", 1, 0),
    "intensity": ("photons", 1, 0),
    "local_background": ("background_photons", 1, 0),
    # DECODE's first axis is along the rows.
    "position_x": ("y_px", 1, 0),
    "position_y": ("x_px", 1, 0),
    "position_z": ("z_nm", 1, 0),
    "x_sig": ("y_sigma_px", 1, 0),
    "prob": ("prob", 1, 0),
}


@pytest.mark.parametrize("three_dimensional", [True, False], ids=["3D", "2D"])
@pytest.mark.parametrize(
    ("ending", "loader", "names"),
    [
        (".decode.h5", "load_decode_file", LOCAN_DECODE),
        ("_sml.mat", "load_SMAP_file", LOCAN_SMAP),
        ("_sml.mat", "mat73", SMAP),
    ],
    ids=["decode", "smap", "matlab"],
)
def test_other_programs_load_our_tables(
    ending: str,
    loader: str,
    names: dict[str, tuple[str, float, float]],
    three_dimensional: bool,
    tmp_path: Path,
) -> None:
    table = make_table(three_dimensional=three_dimensional)
    path = tmp_path / f"locs{ending}"
    write_table(table, path)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(path), loader],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    columns = json.loads(done.stdout.partition("RESULT")[2])
    for theirs, (ours, scale, start) in names.items():
        wanted = (table.data[ours] + start) * scale
        if ours.startswith("z_") and not three_dimensional:
            if loader != "load_decode_file":
                assert theirs not in columns
                continue
            wanted = 0 * wanted
        np.testing.assert_allclose(columns[theirs], wanted, rtol=1e-5, err_msg=theirs)
