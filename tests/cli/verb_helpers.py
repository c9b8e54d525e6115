"""What a verb said, for the tests of the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Said:
    """What a verb left: exit code, and the two streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout, which must be one JSON value in one line and nothing else."""
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one error line; the last on stderr, and no traceback anywhere."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("error:")]
        assert len(errors) == 1, self.err
        assert lines[-1] == errors[0], self.err
        assert "Traceback" not in self.err + self.out
        return errors[0]


Verb = Callable[..., Said]


def assert_same_table(
    actual: npt.NDArray[np.void], expected: npt.NDArray[np.void]
) -> None:
    """The same localizations, whatever the chunks or tiles their frames came in.

    Other chunks sum in another order: equal to rounding, which lies far below the
    card's tolerances (0.01 px, 2 nm). A frame's rows are sorted by prob, and two that
    are equal to rounding may change places, so rows are compared by where they lie.
    """
    assert actual.dtype == expected.dtype
    assert len(actual) == len(expected)
    for rows in (actual, expected):
        assert np.all(np.diff(rows["frame"]) >= 0), "the frames are not in order"
    actual, expected = _by_place(actual), _by_place(expected)
    for name in expected.dtype.names or ():
        np.testing.assert_allclose(
            actual[name], expected[name], rtol=1e-4, atol=1e-3, err_msg=name
        )


def _by_place(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    keys = (rows["x_px"].round(2), rows["y_px"].round(2), rows["frame"])
    return rows[np.lexsort(keys)]
