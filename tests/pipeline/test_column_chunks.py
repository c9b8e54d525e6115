"""Chunks written past zarr are those zarr would have written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.runtime.sinks.column_chunks import ColumnChunks

zarr = pytest.importorskip("zarr", reason="the extra io is not installed")


def make_array(folder: Path, dtype: str, **options: Any) -> Any:
    group = zarr.open_group(str(folder), mode="w-", zarr_format=3)
    fill = -1 if np.dtype(dtype).kind == "i" else -np.inf
    return group.create_array(
        "a", shape=(10,), chunks=(5,), dtype=dtype, fill_value=fill, **options
    )


@pytest.mark.parametrize("dtype", ["<i8", "<i2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("chunk", [0, 1])
def test_zarr_reads_back_every_cell(tmp_path: Path, dtype: str, chunk: int) -> None:
    array = make_array(tmp_path / "ours", dtype)
    chunks = ColumnChunks(array, tmp_path / "ours" / "a")
    assert chunks.direct
    cells = np.array([3, 1, 4, 1, -1], dtype)
    chunks.write(chunk, np.zeros(5, dtype))
    chunks.write(chunk, cells)  # replaced as a whole
    wanted = np.full(10, array.fill_value, dtype)
    wanted[5 * chunk : 5 * chunk + 5] = cells
    found = zarr.open_array(str(tmp_path / "ours" / "a"), mode="r")[:]
    np.testing.assert_array_equal(found, wanted)
    theirs = make_array(tmp_path / "theirs", dtype)
    theirs[5 * chunk : 5 * chunk + 5] = cells
    name = f"a/c/{chunk}"
    ours = (tmp_path / "ours" / name).read_bytes()
    assert ours == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": None},
        {"compressors": [{"name": "gzip", "configuration": {"level": 1}}]},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"shards": (10,)},
    ],
    ids=["plain", "gzip", "v2 keys", "shards"],
)
def test_what_is_written_otherwise_is_left_to_zarr(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    array = make_array(tmp_path / "a.zarr", "<f4", **options)
    chunks = ColumnChunks(array, tmp_path / "a.zarr" / "a")
    assert not chunks.direct
    chunks.write(1, np.arange(5, dtype=np.float32))
    found = zarr.open_array(str(tmp_path / "a.zarr" / "a"), mode="r")[5:]
    np.testing.assert_array_equal(found, np.arange(5))


def test_a_store_that_was_removed_is_not_made_anew(tmp_path: Path) -> None:
    array = make_array(tmp_path / "a.zarr", "<f4")
    chunks = ColumnChunks(array, tmp_path / "a.zarr" / "a")
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(FileNotFoundError):
        chunks.write(0, np.zeros(5, np.float32))
    assert not (tmp_path / "a.zarr").exists()


def test_a_write_that_fails_leaves_the_chunk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = make_array(tmp_path / "a.zarr", "<f4")
    chunks = ColumnChunks(array, tmp_path / "a.zarr" / "a")
    chunks.write(0, np.full(5, 7, np.float32))

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError("in use")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        chunks.write(0, np.zeros(5, np.float32))
    monkeypatch.undo()
    np.testing.assert_array_equal(array[:5], np.full(5, 7))
    assert [file.name for file in (tmp_path / "a.zarr/a/c").iterdir()] == ["0"]
