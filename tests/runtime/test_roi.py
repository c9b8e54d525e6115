"""What two regions of the chip have in common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blinkloop.runtime import Roi

_ROIS = st.builds(
    Roi, st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)
)


def pixels(roi: Roi | None) -> set[tuple[int, int]]:
    """Every pixel of a region."""
    if roi is None:
        return set()
    return {
        (x, y)
        for x in range(roi.x, roi.x + roi.width)
        for y in range(roi.y, roi.y + roi.height)
    }


@given(_ROIS, _ROIS)
def test_the_common_region_is_that_of_the_pixels(one: Roi, other: Roi) -> None:
    common = one.common(other)
    assert pixels(common) == pixels(one) & pixels(other)
    assert common == other.common(one)
