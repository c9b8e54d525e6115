"""Files that may be thrown away: engines built before, kernels compiled before.

Keys are hashes over *all* that decides the content. The parts are encoded as JSON with
sorted names, which no two different sets of parts share; joining texts would give
("ab", "c") and ("a", "bc") the same key.

Design notes: a cache never fails a run. What cannot be read is made again, what cannot
be written is not kept. Files appear whole: written beside, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = [
    "cache_folder",
    "cache_key",
    "read_cached",
    "replace_file",
    "write_cached",
]

_VARIABLE = "BLINKLOOP_CACHE"

Part = str | int | float | bool | None | tuple["Part", ...] | Mapping[str, "Part"]


def cache_folder() -> Path:
    """Where cached files lie; `BLINKLOOP_CACHE` in the environment moves it."""
    given = os.environ.get(_VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home()) / "blinkloop" / "cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "blinkloop"


def cache_key(**parts: Part) -> str:
    """SHA-256 over named parts, hexadecimal; different parts, different keys.

    Raises
    ------
    ValueError
        A part is a number that is not finite.
    """
    text = json.dumps(parts, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_cached(file: Path) -> bytes | None:
    """Content of a cached file that arrived whole, else None."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, rest = content[:32], content[32:]
    return rest if hashlib.sha256(rest).digest() == digest else None


def write_cached(file: Path, content: bytes) -> bool:
    """Keep content with its checksum; False when it cannot be kept."""
    return replace_file(file, hashlib.sha256(content).digest() + content)


def replace_file(file: Path, content: bytes) -> bool:
    """Write a file in one step, with its folder; False when that fails."""
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=file.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.replace(file)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        return False
    return True
