"""Engines that TensorRT built, and that are stale, cut off, or not what is wanted.

What is tested on made-up bytes elsewhere (`test_engine_file`, `tests/runtime/
test_backend_tensorrt`) is here done to a real engine, as it lies beside its model.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
pytest.importorskip("onnx", reason="needs the extra 'export'")
from built_engine import FULL, HALF, Built
from click.testing import CliRunner

import blinkloop.runtime.backends.table as table
import blinkloop.runtime.backends.tensorrt_engine as tensorrt_engine
from blinkloop.cli import bench, main
from blinkloop.engine_file import engine_file_bytes, read_engine
from blinkloop.engine_kinds import engine_kind
from blinkloop.errors import InputError
from blinkloop.export import update_card
from blinkloop.runtime.backends.tensorrt_engine import find_engine
from blinkloop.runtime.model import read_model

RTX = engine_kind("tensorrt-rtx")


@pytest.fixture
def pair(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model with its engine beside it; returns the model's path."""
    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "tiny.onnx"
    model.write_bytes(FULL.read_bytes())
    model.with_suffix(".rtx").write_bytes(built.file.read_bytes())
    return model


def refusal(model: Path) -> str:
    """Why the engine beside a model is not taken, which must be one line."""
    with pytest.raises(InputError) as caught:
        find_engine(read_model(model), RTX)
    said = str(caught.value)
    assert "\n" not in said
    assert str(model.with_suffix(".rtx")) in said
    assert "blinkloop export" in said or "build it again" in said
    return said


def test_the_right_one_is_taken(pair: Path) -> None:
    assert find_engine(read_model(pair), RTX) == pair.with_suffix(".rtx")


def test_stale_when_the_card_of_the_model_changes(pair: Path) -> None:
    update_card(pair, provenance={"note": "another"})
    said = refusal(pair)
    assert f"is stale, it was built from another file than {pair}" in said
    assert f"blinkloop export {pair} --engine tensorrt-rtx -o" in said


def test_stale_beside_another_model(pair: Path) -> None:
    pair.write_bytes(HALF.read_bytes())
    assert "is stale" in refusal(pair)


@pytest.mark.parametrize("version", ["1.7.1.115", "1.8.0", "2"])
def test_of_another_version(
    pair: Path, monkeypatch: pytest.MonkeyPatch, built: Built, version: str
) -> None:
    monkeypatch.setattr(tensorrt_engine, "_installed_version", lambda kind: version)
    said = refusal(pair)
    assert f"was built by tensorrt_rtx {built.header.builder_version}" in said
    assert f"here is {version}, and engines run only in the version" in said


def cut(content: bytes) -> int:
    """Where the engine begins."""
    (length,) = struct.unpack_from("<I", content, 8)
    return 8 + 4 + 32 + int(length)


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def without_last_byte(content: bytes) -> bytes:
    return content[:-1]


def without_engine(content: bytes) -> bytes:
    return content[: cut(content)]


def without_most_of_the_header(content: bytes) -> bytes:
    return content[:100]


@pytest.mark.parametrize(
    "change",
    [halved, without_last_byte, without_engine, without_most_of_the_header],
)
def test_truncated(pair: Path, change: Callable[[bytes], bytes]) -> None:
    file = pair.with_suffix(".rtx")
    file.write_bytes(change(file.read_bytes()))
    said = refusal(pair)
    assert f"is truncated (it ends after {file.stat().st_size} bytes)" in said


def bare(content: bytes) -> bytes:
    """As TensorRT's own tools write it."""
    return content[cut(content) :]


def graph(content: bytes) -> bytes:
    return FULL.read_bytes()


def nothing(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("change", [bare, graph, nothing])
def test_foreign(pair: Path, change: Callable[[bytes], bytes]) -> None:
    file = pair.with_suffix(".rtx")
    file.write_bytes(change(file.read_bytes()))
    assert "is not a blinkloop engine file" in refusal(pair)


def test_the_header_of_one_and_the_engine_of_another(pair: Path) -> None:
    file = pair.with_suffix(".rtx")
    header, engine = read_engine(file)
    other = bytes(reversed(engine))
    file.write_bytes(engine_file_bytes(header, other))
    # The header alone is well; what runs the engine reads all of it.
    assert find_engine(read_model(pair), RTX) == file
    with pytest.raises(InputError, match="the engine is damaged") as caught:
        read_engine(file)
    assert "\n" not in str(caught.value)


def test_under_the_name_of_the_other_kind(pair: Path) -> None:
    file = pair.with_suffix(".rtx")
    renamed = file.rename(pair.with_suffix(".trt"))
    with pytest.raises(InputError, match="is a tensorrt-rtx engine, the backend"):
        find_engine(read_model(pair), engine_kind("tensorrt"))
    with pytest.raises(InputError, match="is a tensorrt-rtx engine, the backend"):
        find_engine(read_model(renamed), engine_kind("tensorrt"))


def test_without_a_gpu_bench_says_what_is_missing(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_ENTRIES", tuple(map(without_gpu, table._ENTRIES)))
    file = pair.with_suffix(".rtx")
    result = CliRunner().invoke(main, ["bench", "-m", str(file), "--size", "16x16"])
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
    assert "the backend 'tensorrt-rtx' cannot be used here: this machine has no" in line


def test_an_engine_has_no_weights_for_pytorch(pair: Path) -> None:
    assert bench._no_torch(pair) == ""
    said = bench._no_torch(pair.with_suffix(".rtx"))
    assert said == "an engine holds no weights for it"


def without_gpu(entry: Any) -> Any:
    """A row of the table as on a machine without a GPU."""
    if entry.engine is None:
        return entry
    return replace(entry, missing=lambda: "this machine has no GPU")


VERBS: list[tuple[Any, ...]] = [
    ("fit", "movie.npy", "-o", "out.csv"),
    ("bench", "--size", "16x16"),
    ("replay", "movie.npy", "--fps", "10"),
    ("run",),
]


@pytest.mark.parametrize("words", VERBS, ids=[words[0] for words in VERBS])
@pytest.mark.parametrize(
    ("change", "wanted"),
    [(halved, "is truncated"), (bare, "is not a blinkloop engine file")],
    ids=["truncated", "foreign"],
)
def test_verbs_say_one_line(
    pair: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    change: Callable[[bytes], bytes],
    wanted: str,
) -> None:
    import numpy as np

    monkeypatch.chdir(pair.parent)
    np.save("movie.npy", np.zeros((3, 16, 21), np.uint16))
    file = pair.with_suffix(".rtx")
    file.write_bytes(change(file.read_bytes()))
    result = CliRunner().invoke(main, [*words, "-m", str(file)])
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
    assert wanted in line
    assert "Traceback" not in result.output
