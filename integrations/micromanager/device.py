"""What every source behind a Micro-Manager core says of its camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from blinkloop.runtime.records import Roi

__all__ = ["CameraDevice"]


class CameraDevice:
    """A camera by its label; a source sets the three fields when it has found it."""

    _camera: str
    _roi: Roi
    _dtype: np.dtype[Any]

    @property
    def camera(self) -> str:
        """Label of the camera."""
        return self._camera

    @property
    def roi(self) -> Roi:
        """Where the frames lie on the chip."""
        return self._roi

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return self._dtype
