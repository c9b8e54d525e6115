"""Tables of further programs are read where their emitters are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.formats import read_table, write_table
from blinkloop.integrations.movies import open_movie

h5py = pytest.importorskip("h5py")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tables"

TEXTS = {
    "smap": (
        "frame,xnm,ynm,znm,phot,bg,locprecnm,locprecznm\n1,100,250,-30,900,4,12,25\n"
        "3,1060,50,0,800,5,10,20\n",
        (0.0, 1.5, -30.0, 900.0),
    ),
    "challenge": (
        "Ground-truth,frame,xnano,ynano,znano,intensity\n7,1,50,200,-30,900\n"
        "8,3,1060,50,0,800\n",
        (0.0, 1.5, -30.0, 900.0),
    ),
    "nanoimager": (
        "Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background\n0,0,50,200,-30,900,4\n"
        "0,2,1060,50,0,800,5\n",
        (0.0, 1.5, -30.0, 900.0),
    ),
    "elyra": (
        "Index\tFirst Frame\tPosition X [nm]\tPosition Y [nm]\tPrecision [nm]\t"
        "Number Photons\n1\t1\t50\t200\t8\t900\n2\t3\t1060\t50\t9\t800\n\n"
        "VoxelSizeX : 0.0967821\n",
        (0.0, 1.5, np.nan, 900.0),
    ),
    "rapidstorm": (
        '# <localizations><field identifier="Position-0-0" unit="nanometer" /><field '
        'identifier="Position-1-0" /><field identifier="ImageNumber-0-0" /><field '
        'identifier="Amplitude-0-0" /></localizations>\n50 200 0 33290.1\n'
        "1060 50 2 21275.4\n",
        (0.5, 2.0, np.nan, np.nan),
    ),
}


@pytest.mark.parametrize("program", TEXTS)
def test_text_tables(program: str, tmp_path: Path) -> None:
    text, first = TEXTS[program]
    path = tmp_path / "locs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    table = read_table(path, 100.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    row = table.data[0]
    got = [row[name] for name in ("x_px", "y_px", "z_nm", "photons")]
    np.testing.assert_allclose(got, first)
    written = tmp_path / "out.hdf5"
    write_table(table, written)
    np.testing.assert_allclose(read_table(written).data["x_px"], table.data["x_px"])


def test_a_short_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text("frame,xnm,ynm\n1,100,250\n2,100\n")
    with pytest.raises(InputError, match="row 3 has 2 cells, the header names 3"):
        read_table(path, 100.0)
    path.write_text("frame,xnm,ynm\n1,100,250\nx,1,100\n")
    with pytest.raises(InputError, match="column frame has cells without a number"):
        read_table(path, 100.0)
    path.write_text("frame,xnm,ynm\n")
    assert len(read_table(path, 100.0)) == 0


def _smap_h5(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        loc = file.create_group("saveloc/loc")
        for name, values in (
            ("frame", [1, 3]),
            ("xnm", [104, 1060]),
            ("ynm", [260, 9]),
        ):
            loc[name] = np.array([values], float)
        file["saveloc/file/info/cam_pixelsize_um"] = [[0.104], [0.104]]
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116))


def _smap_v5(path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    loc = {"frame": [1.0, 3.0], "xnm": [104.0, 1060.0], "ynm": [260.0, 9.0]}
    info = {"cam_pixelsize_um": [0.104, 0.104]}
    io.savemat(path, {"saveloc": {"loc": loc, "file": {"info": info}}})


@pytest.mark.parametrize("write", [_smap_h5, _smap_v5], ids=["v7.3", "v5"])
def test_smap_mat_says_its_pixel(write: object, tmp_path: Path) -> None:
    path = tmp_path / "run_sml.mat"
    write(path)  # type: ignore[operator]
    table = read_table(path)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose(table.data["x_px"][0], 0, atol=1e-9)
    np.testing.assert_allclose(table.data["y_px"][0], 1.5)
    assert table.meta["pixel_size_nm"] == pytest.approx(104)


def test_empty_fields_of_smap_are_no_values(tmp_path: Path) -> None:
    """MATLAB keeps znm = [] as the two numbers 0 and 0, its size."""
    path = tmp_path / "run_sml.mat"
    _smap_h5(path)
    with h5py.File(path, "r+") as file:
        for name in ("znm", "bg"):
            file[f"saveloc/loc/{name}"] = np.zeros(2, "u8")
            file[f"saveloc/loc/{name}"].attrs["MATLAB_empty"] = np.uint8(1)
        file["saveloc/loc/xnmerr"] = [[10.4, 20.8]]
    data = read_table(path).data
    assert np.isnan(data["z_nm"]).all()
    assert np.isnan(data["background_photons"]).all()
    np.testing.assert_allclose(data["x_sigma_px"], [0.1, 0.2], rtol=1e-6)


def test_another_mat_is_refused(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    io.savemat(tmp_path / "x.mat", {"a": 1})
    with pytest.raises(InputError, match="no localizations of SMAP"):
        read_table(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("smap_dstorm_data.mat", 4884),
        ("Elyra_dstorm_data.txt", 15),
        ("Nanoimager_dstorm_data.csv", 14),
        ("rapidSTORM_dstorm_data.txt", 14),
        ("rapidSTORM_from_images.txt", 12),
    ],
)
def test_real_tables(name: str, count: int) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"real tables not at {SHARED}")
    table = read_table(SHARED / name, None if name.endswith(".mat") else 100.0)
    assert len(table) == count
    assert np.all(np.isfinite(table.data["x_px"]))
    assert table.data["frame"].min() >= 0


ZERO_BASED = {
    # Picasso's export: ids and frames from 0, whole photons.
    "thunderstorm": "id,frame,x [nm],y [nm],intensity [photon]\n0,A,1,2,9\n1,B,1,2,9",
    "smap": "frame,xnm,ynm\nA,1,2\nB,1,2",
    "challenge": "frame,xnano,ynano\nA,1,2\nB,1,2",
}


@pytest.mark.parametrize("program", ZERO_BASED)
def test_frames_of_a_table_that_counts_from_0(program: str, tmp_path: Path) -> None:
    path, text = tmp_path / "locs.csv", ZERO_BASED[program]
    for numbers, frames in (((0, 3), [0, 3]), ((1, 4), [0, 3]), ((2, 0), [2, 0])):
        path.write_text(
            text.replace("A", str(numbers[0])).replace("B", str(numbers[1]))
        )
        table = read_table(path, 100.0)
        np.testing.assert_array_equal(table.data["frame"], frames)
        for ending in ("hdf5", "csv"):
            written = tmp_path / f"out.{ending}"
            write_table(table, written, overwrite=True)
            back = read_table(written).data["frame"]
            np.testing.assert_array_equal(back, frames)
    path.write_text(text.replace("A", "-1").replace("B", "4"))
    with pytest.raises(InputError, match="frame -1 is below 0"):
        read_table(path, 100.0)


@pytest.mark.parametrize(
    ("number", "noise", "first"),
    [(0, 0, (11, 5.6)), (1, 0, (10, 5.1)), (0, 9, (10, 5.1))],
)
def test_what_picasso_exports_has_its_own_origin(
    number: int, noise: int, first: tuple[int, float], tmp_path: Path
) -> None:
    """Header and rows as picassosr 0.11.3 writes them (`io.export_thunderstorm`)."""
    path = tmp_path / "locs.csv"
    path.write_text(
        "id,frame,x [nm],y [nm],sigma [nm],intensity [photon],offset [photon],"
        "bkgstd [photon],uncertainty_xy [nm]\n"
        f"{number},11,728.0,689.0,111.1,5788,249,{noise},2.3\n"
        f"{number + 1},12,715.0,706.8,107.9,19461,249,{noise},1.0\n"
    )
    row = read_table(path, 130.0).data[0]
    np.testing.assert_allclose([row["frame"], row["x_px"]], first)


@pytest.mark.parametrize("program", ZERO_BASED)
def test_a_position_that_is_no_number_is_named(program: str, tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    text = ZERO_BASED[program].replace("A", "1")
    path.write_text(text.replace("B,1", "2,none"))
    with pytest.raises(InputError, match=r"column x.* first of 1 in row 2"):
        read_table(path, 100.0)


def test_hdf5_tables_that_are_not_picassos(tmp_path: Path) -> None:
    path = tmp_path / "locs.hdf5"
    with h5py.File(path, "w") as file:
        file["locs/x"] = [1.0, 2.0]  # columns in a group, as pandas and others do
    with pytest.raises(InputError, match=r"holds no table .* \(it holds locs\)"):
        read_table(path)
    kinds = [("frame", "f4"), ("x", "f4"), ("y", "f4")]
    with h5py.File(path, "w") as file:
        file["locs"] = np.array([(1, 2, 3), (np.nan, 2, 3)], kinds)
    with pytest.raises(InputError, match=r"frame has cells without a number .* row 2"):
        read_table(path)


def _smappy(path: Path, pixel: object, **columns: list[float]) -> None:
    """As SMAPpy 0.4.1 writes what it fitted."""
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = "smappy-localizations", 1
        file.attrs["metadata"] = json.dumps({"units": "nm", "pixelsize_nm": pixel})
        file.attrs["n_localizations"] = len(next(iter(columns.values()), []))
        for name, values in columns.items():
            file[f"locs/{name}"] = np.array(values, "f4")


def test_smappy(tmp_path: Path) -> None:
    path = tmp_path / "locs.h5"
    _smappy(
        path,
        [100.0, 120.0],
        frame=[0, 3],
        x_nm=[0, 3025],
        y_nm=[180, 0],
        z_nm=[-30, 5],
        photons=[900, 800],
        photons_err=[30, 29],
        xy_err_nm=[11, 11],
        x_err_nm=[10, 10],
        y_err_nm=[12, 12],
    )
    table = read_table(path)
    np.testing.assert_array_equal(table.data["frame"], [0, 3])
    np.testing.assert_allclose(table.data["x_px"], [0, 30.25])
    np.testing.assert_allclose(table.data["y_px"], [1.5, 0])
    for name in ("x_sigma_px", "y_sigma_px"):
        np.testing.assert_allclose(table.data[name], [0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(table.data["z_nm"], [-30, 5])
    assert table.meta["pixel_size_xy_nm"] == [100, 120]
    assert table.meta["three_dimensional"] is True
    _smappy(path, None, frame=[0, 3], x_nm=[0, 3025], y_nm=[180, 0])
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    _smappy(path, 100.0, frame=[0, 3], x_nm=[0, 3025], y_nm=[180])
    with pytest.raises(InputError, match="column y_nm is not as long"):
        read_table(path)
    _smappy(path, 100.0, frame=[0, 3], x_pix=[0, 3025])
    with pytest.raises(InputError, match="no column x_nm"):
        read_table(path)
    _smappy(path, 100.0)
    assert len(read_table(path)) == 0


def test_frames_below_0_are_not_written(tmp_path: Path) -> None:
    table = read_table(_challenge(tmp_path), 100.0)
    table.data["frame"][0] = -1
    for ending in ("hdf5", "csv"):
        with pytest.raises(InputError, match="a frame -1"):
            write_table(table, tmp_path / f"out.{ending}")


def test_a_damaged_group_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locs.hdf5"
    write_table(read_table(_challenge(tmp_path), 100.0), path)

    def damaged(*args: object) -> None:
        raise RuntimeError("Unable to check link existence (bad heap free list)")

    monkeypatch.setattr(h5py.Group, "__contains__", damaged)
    with pytest.raises(InputError, match=r"is damaged .*bad heap.*copy it again"):
        read_table(path)
    monkeypatch.setattr(h5py.Group, "visititems", damaged)
    with pytest.raises(InputError, match=r"is damaged .*bad heap.*copy it again"):
        open_movie(path)


@pytest.mark.parametrize("code", [(), (28,)], ids=["text", "number"])
def test_a_full_disk_is_said_in_few_words(
    code: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(
            *code,
            "Unable to synchronously create file (file write failed: time = Mon Nov\n"
            " 23 2026, errno = 28, error message = 'No space left on device', buf = 0)",
        )

    table = read_table(_challenge(tmp_path), 100.0)
    monkeypatch.setattr(h5py, "File", full)
    with pytest.raises(InputError, match=r"written \(No space left on device\);"):
        write_table(table, tmp_path / "out.hdf5")


def _challenge(folder: Path) -> Path:
    path = folder / "locs.csv"
    path.write_text(TEXTS["challenge"][0])
    return path
