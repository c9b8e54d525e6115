"""Small movies, non-square and odd-sized, with a value that says where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def stack() -> npt.NDArray[np.uint16]:
    """(7, 5, 9): every pixel has its own value."""
    return (np.arange(7 * 5 * 9, dtype=np.uint16) * 3 + 100).reshape(7, 5, 9)


@pytest.fixture
def shared_data() -> Path:
    """Real data of the workplace."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not at {SHARED}")
    return SHARED
