"""What a movie that grows is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["GrowingMovie", "NotYetError"]


class NotYetError(Exception):
    """There is no whole frame to learn the size from yet."""


class GrowingMovie(Protocol):
    """Frames of one size in a file or folder that another program writes.

    Law: a frame counts as ready only when the writer can no longer be in the middle of
    it. `poll` never waits.
    """

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip of the first pixel."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the file itself says that no more frames will come."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What the file says of the camera, as arguments of `CameraSettings`."""
        ...

    def poll(self) -> int:
        """Look at the file once; frames ready so far."""
        ...

    def settle(self) -> int:
        """The writer has ended: also take what only a next frame would have proven."""
        ...

    def number(self, k: int) -> int:
        """Frame number of the k-th frame; a jump means that frames are missing."""
        ...

    def read(self, k: int) -> npt.NDArray[Any]:
        """The k-th frame (height, width), k below what `poll` said, as a new array."""
        ...

    def close(self) -> None: ...
