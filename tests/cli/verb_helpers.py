"""What a verb said, for the tests of the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
