"""Camera facts as arrays of the graph."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.runtime.records import Roi
from blinkloop.schema import CameraSettings

EMCCD = CameraSettings(
    kind="emccd",
    baseline_adu=100,
    e_per_adu=45,
    em_gain=300,
    quantum_efficiency=0.9,
    spurious_e=0.002,
)


def test_constants_invert_the_camera() -> None:
    maps = make_camera_maps(EMCCD)
    assert maps.offset_adu.shape == maps.photons_per_adu.shape == (1, 1)
    assert maps.offset_adu.dtype == maps.photons_per_adu.dtype == np.float32
    adu = np.array([[100.0, 350.0], [4000.0, 65535.0]])
    # REFERENCE section 6, term by term.
    photons = ((adu - 100) * 45 / 300 - 0.002) / 0.9
    got = (adu - maps.offset_adu) * maps.photons_per_adu
    np.testing.assert_allclose(got, photons, rtol=1e-6, atol=1e-6)


def test_maps_are_cropped_by_row_and_column() -> None:
    rng = np.random.default_rng(1)
    baseline = rng.uniform(90, 110, (7, 11))
    maps = make_camera_maps(EMCCD, baseline_adu_map=baseline)
    part = maps.crop(Roi(x=4, y=2, width=5, height=3))
    expected = baseline[2:5, 4:9] + 0.002 * 300 / 45
    np.testing.assert_allclose(part.offset_adu, expected, rtol=1e-6)
    assert part.offset_adu.flags.c_contiguous
    assert part.photons_per_adu.shape == (1, 1)
    # Cropping what is cropped stays in chip coordinates.
    again = part.crop(Roi(x=5, y=3, width=2, height=1))
    np.testing.assert_allclose(again.offset_adu, expected[1:2, 1:3], rtol=1e-6)


def test_gain_map_also_scales_the_spurious_charge() -> None:
    gain = np.array([[0.5, 2.0, 1.0]])
    camera = CameraSettings(spurious_e=3.0, baseline_adu=10)
    maps = make_camera_maps(camera, e_per_adu_map=gain, area=Roi(8, 9, 3, 1))
    np.testing.assert_allclose(maps.offset_adu, 10 + 3.0 / gain, rtol=1e-6)
    np.testing.assert_allclose(maps.photons_per_adu, gain, rtol=1e-6)
    np.testing.assert_allclose(
        maps.crop(Roi(10, 9, 1, 1)).photons_per_adu, [[1.0]], rtol=1e-6
    )


def test_constants_fit_any_region() -> None:
    maps = make_camera_maps(EMCCD)
    assert maps.crop(Roi(1000, 2000, 17, 5)) is maps


@pytest.mark.parametrize(
    "roi",
    [
        pytest.param(Roi(0, 0, 12, 7), id="too wide"),
        pytest.param(Roi(0, 1, 11, 7), id="too low"),
        pytest.param(Roi(-1, 0, 5, 5), id="negative"),
    ],
)
def test_region_outside_the_maps(roi: Roi) -> None:
    maps = make_camera_maps(EMCCD, baseline_adu_map=np.full((7, 11), 100.0))
    with pytest.raises(InputError, match="camera maps cover 11 x 7 px"):
        maps.crop(roi)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"e_per_adu_map": np.zeros((2, 3))}, "above 0", id="zero gain"),
        pytest.param(
            {"baseline_adu_map": np.array([[1.0, np.nan]])},
            "finite .* got nan at column 1, row 0",
            id="nan",
        ),
        pytest.param({"baseline_adu_map": np.zeros(3)}, "2D", id="1D"),
        pytest.param({"baseline_adu_map": np.zeros((0, 3))}, "2D", id="empty"),
        pytest.param(
            {"baseline_adu_map": np.zeros((2, 3)), "e_per_adu_map": np.ones((3, 2))},
            "2 x 3 px .* expected 3 x 2",
            id="two sizes",
        ),
    ],
)
def test_bad_maps(arguments: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_camera_maps(EMCCD, **arguments)
