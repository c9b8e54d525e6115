"""Files that appear whole or not at all."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from blinkloop.errors import InputError

__all__ = ["refuse_existing", "whole_files"]


def refuse_existing(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write where something lies already, or where no folder is.

    Raises
    ------
    InputError
        In one line, with what to do.
    """
    for path in paths:
        if not path.parent.is_dir():
            raise InputError(
                f"{path}: the folder {path.parent} does not exist; make it first"
            )
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the name of a file")
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already and would be lost; give another name, or "
                f"allow it with --overwrite"
            )


def _reason(text: str) -> str:
    """What HDF5 says in one sentence: the system's own words when they are there."""
    said = re.search(r"error message = '([^']+)'", text)
    return said[1] if said else " ".join(text.split())


@contextmanager
def whole_files(paths: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
    """Yield temporary names beside the final ones; move them there at the end.

    A reader, or a crash, never sees a half-written file under its final name. When the
    body raises, nothing is left behind.

    Raises
    ------
    InputError
        See `refuse_existing`, or when the disk refuses.
    """
    refuse_existing(paths, overwrite=overwrite)
    temporary: list[Path] = []
    try:
        try:
            for path in paths:
                unique = f".{path.stem}-{secrets.token_hex(4)}{path.suffix}"
                temporary.append(path.with_name(unique))
            yield temporary
            for source, target in zip(temporary, paths, strict=True):
                source.replace(target)
        except (OSError, RuntimeError) as error:
            # HDF5 says of a full disk at a late moment that it is a RuntimeError.
            if isinstance(error, RuntimeError) and "errno" not in str(error):
                raise
            why = _reason(getattr(error, "strerror", None) or str(error))
            raise InputError(
                f"{paths[0]} cannot be written ({why}); choose another place"
            ) from error
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink()
