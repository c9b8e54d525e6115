"""The container of engines: what goes in comes out, and all that is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import make_card

from blinkloop.cache import cache_folder, cache_key, read_cached, write_cached
from blinkloop.engine_file import (
    EngineHeader,
    SizeRange,
    engine_file_bytes,
    is_engine_file,
    read_engine,
    read_engine_header,
)
from blinkloop.engine_kinds import engine_kind
from blinkloop.errors import InputError
from blinkloop.schema import Architecture

CARD = make_card(Architecture(features=4, depth=2))
ENGINE = bytes(range(256)) * 3


def make_header(engine: bytes = ENGINE, **changes: Any) -> EngineHeader:
    values: dict[str, Any] = {
        "kind": "tensorrt-rtx",
        "builder_version": "1.7",
        "blinkloop_version": "0.1",
        "platform": "linux-x86_64",
        "compute_capabilities": ("8.9",),
        "onnx_sha256": "ab" * 32,
        "graph_flavour": 1,
        "precision": ("float32",),
        "tf32": False,
        "sizes": SizeRange(
            frames=(1, 2, 4), height_px=(8, 16, 40), width_px=(6, 16, 50)
        ),
        "key": "cd" * 32,
        "engine_bytes": len(engine),
        "engine_sha256": hashlib.sha256(engine).hexdigest(),
        "card": CARD,
    }
    return EngineHeader(**{**values, **changes})


@pytest.fixture
def content() -> bytes:
    return engine_file_bytes(make_header(), ENGINE)


def test_round_trip(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.rtx"
    file.write_bytes(content)
    assert is_engine_file(file)
    assert read_engine_header(file) == make_header()
    header, engine = read_engine(file)
    assert header.card == CARD
    assert engine == ENGINE


def test_layout_as_documented(content: bytes) -> None:
    assert content[:8].hex() == "89424c450d0a1a0a"
    length = int.from_bytes(content[8:12], "little")
    text = content[44 : 44 + length]
    assert content[12:44] == hashlib.sha256(text).digest()
    assert EngineHeader.model_validate_json(text) == make_header()
    assert content[44 + length :] == ENGINE


def error_of(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_engine(file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


@pytest.mark.parametrize("kept", [1, 7, 8, 11, 12, 43, 44, 100, -1, -len(ENGINE)])
def test_truncated(tmp_path: Path, content: bytes, kept: int) -> None:
    message = error_of(tmp_path / "m.rtx", content[:kept])
    assert "is truncated" in message
    with pytest.raises(InputError, match="is truncated"):
        read_engine_header(tmp_path / "m.rtx")


@pytest.mark.parametrize(
    "foreign", [b"", b"vtrt" + bytes(60), b"\x89PNG\r\n\x1a\n" + bytes(60), b"text"]
)
def test_foreign(tmp_path: Path, foreign: bytes) -> None:
    assert "not a blinkloop engine file" in error_of(tmp_path / "m.rtx", foreign)
    assert not is_engine_file(tmp_path / "m.rtx")


def test_every_damaged_byte_is_noticed(tmp_path: Path, content: bytes) -> None:
    for position in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        assert error_of(tmp_path / "m.rtx", bytes(damaged))


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (50, "header of the engine file is damaged"),
        (-1, "the engine is damaged"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes, position: int, message: str) -> None:
    damaged = bytearray(content)
    damaged[position] ^= 1
    assert message in error_of(tmp_path / "m.rtx", bytes(damaged))


def test_bytes_after_the_engine(tmp_path: Path, content: bytes) -> None:
    message = error_of(tmp_path / "m.rtx", content + b"12345")
    assert "5 bytes follow the engine" in message


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    """The file with another header of right length and digest."""
    length = int.from_bytes(content[8:12], "little")
    text = content[44 : 44 + length]
    assert old in text
    text = text.replace(old, new, 1)
    size = len(text).to_bytes(4, "little")
    digest = hashlib.sha256(text).digest()
    return content[:8] + size + digest + text + content[44 + length :]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"format_version":1', b'"format_version":2', "another version of blinkloop"),
        (b'"tf32"', b'"tf64"', "another version of blinkloop"),
        (b'"kind":"tensorrt-rtx"', b'"kind":"abacus"', "unknown kind 'abacus'; known"),
        (b"{", b"[", "another version of blinkloop"),
    ],
)
def test_headers_of_other_versions(
    tmp_path: Path, content: bytes, old: bytes, new: bytes, message: str
) -> None:
    assert message in error_of(tmp_path / "m.rtx", rewritten(content, old, new))


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such engine file; build one with"):
        read_engine_header(tmp_path / "none.rtx")
    with pytest.raises(InputError, match="is a folder"):
        read_engine(tmp_path)
    assert not is_engine_file(tmp_path)
    with pytest.raises(InputError, match="no engine 'abacus'; known: tensorrt-rtx"):
        engine_kind("abacus")


@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_range_of_sizes(height: int, width: int) -> None:
    sizes = make_header().sizes
    assert sizes.holds(height, width) == (8 <= height <= 40 and 6 <= width <= 50)


# --- the cache ---

_part = st.one_of(
    st.text(max_size=4), st.integers(-9, 9), st.booleans(), st.none(), st.just(1.5)
)
_parts = st.dictionaries(st.text("abc_", min_size=1, max_size=3), _part, max_size=3)


def _exact(parts: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    # True == 1 in Python, but they are different parts.
    return {name: (type(value), value) for name, value in parts.items()}


@given(one=_parts, other=_parts)
def test_keys_differ_when_parts_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (cache_key(**one) == cache_key(**other)) == (_exact(one) == _exact(other))


def test_keys_do_not_join_texts() -> None:
    pairs = [
        {"a": "xy", "b": "z"},
        {"a": "x", "b": "yz"},
        {"a": 'xy","b":"z', "b": ""},
        {"a": "xy", "b": {"z": 1}},
        {"a": "xy", "b": ("z",)},
    ]
    assert len({cache_key(**pair) for pair in pairs}) == len(pairs)
    assert cache_key(b=1, a=2) == cache_key(a=2, b=1)
    with pytest.raises(ValueError, match="JSON"):
        cache_key(a=float("nan"))


def test_cached_files(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "x.bin"
    assert read_cached(file) is None
    assert write_cached(file, b"some times")
    assert read_cached(file) == b"some times"
    assert [p.name for p in file.parent.iterdir()] == ["x.bin"]
    file.write_bytes(file.read_bytes()[:-1])
    assert read_cached(file) is None
    # A cache that cannot be written is no reason to fail.
    assert not write_cached(file / "below a file", b"x")
    assert write_cached(file, b"")
    assert read_cached(file) == b""


@pytest.mark.parametrize(
    ("platform", "environment", "wanted"),
    [
        ("linux", {"BLINKLOOP_CACHE": "/c"}, "/c"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/blinkloop"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/blinkloop/cache"),
    ],
)
def test_folder(
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    environment: dict[str, str],
    wanted: str,
) -> None:
    for name in ("BLINKLOOP_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == Path(wanted)
