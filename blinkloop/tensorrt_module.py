"""TensorRT's Python module, in either kind, loaded at the call.

Design notes: what builds engines (`export/`) and what runs them (`runtime/`) load the
same module and listen to it in the same way; neither may import the other.
"""

from __future__ import annotations

import warnings
from typing import Any

from blinkloop.engine_kinds import EngineKind
from blinkloop.errors import InputError
from blinkloop.extras import require

__all__ = ["error_logger", "load_tensorrt", "one_line"]

_MOST_LETTERS = 200


def load_tensorrt(kind: EngineKind, feature: str) -> Any:
    """The module of a kind.

    Parameters
    ----------
    kind
        Kind of engines.
    feature
        What needs it, as the start of a sentence.

    Raises
    ------
    InputError
        It is installed but does not load.
    MissingExtraError
        It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return require(kind.module, feature, kind.extra)
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"the package {kind.module!r} is installed but does not load "
            f"({one_line(str(error))}); reinstall it: pip install --force-reinstall "
            f'"blinkloop[{kind.extra}]"'
        ) from error


def error_logger(trt: Any) -> Any:
    """A logger for TensorRT that says nothing and keeps errors.

    Its `errors` is the list of them; `reason()` the first since the last call of it, in
    one line, for a message to a person.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]  # its module has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

        def reason(self) -> str:
            # The first error names the cause, those after it what followed.
            first = one_line(self.errors[0]) if self.errors else "it gave no reason"
            self.errors.clear()
            return first

    return Logger()


def one_line(text: str) -> str:
    """A text in one line of at most 200 letters."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 3] + "..."
