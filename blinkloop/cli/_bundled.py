"""Models that come with the package, and what `-m` means."""

from __future__ import annotations

from pathlib import Path

from blinkloop.errors import InputError

__all__ = ["bundled_models", "resolve_model"]

_SUFFIXES = frozenset({".onnx", ".rtx", ".trt"})
"""Of model files, and of engines (`blinkloop.engine_file.ENGINE_KINDS`)."""


def bundled_models() -> dict[str, Path]:
    """Models shipped in the package: name -> file, sorted by name."""
    # Imported here: importlib.resources is a third of the time of `blinkloop --help`.
    from importlib.resources import files

    folder = Path(str(files("blinkloop"))) / "models"
    # By stem: as paths, "astigmatic-small.onnx" comes before "astigmatic.onnx".
    return {p.stem: p for p in sorted(folder.glob("*.onnx"), key=lambda p: p.stem)}


def resolve_model(name: str) -> Path:
    """File of a model given by its bundled name or by its path.

    A file of that name wins over a bundled model only when the name says it is a path:
    it ends as model and engine files do, or holds a separator.

    Raises
    ------
    InputError
        When there is neither.
    """
    path = Path(name)
    if path.suffix.lower() in _SUFFIXES or path.name != name:
        if path.is_file():
            return path
        raise InputError(
            f"{name}: there is no such model file; give the path of an .onnx file made "
            f"by 'blinkloop export' or the name of a bundled model (blinkloop models)"
        )
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    known = ", ".join(bundled) or "none"
    raise InputError(
        f"there is no bundled model {name!r} (bundled: {known}); "
        f"give one of these or the path of an .onnx file"
    )
