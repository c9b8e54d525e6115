"""Pictures of localizations: no light lost, colours in order, PNG readable."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.colour import cubehelix, to_rgb, to_unit
from blinkloop.errors import InputError
from blinkloop.png import png_bytes, write_png
from blinkloop.render import Extent, render_gaussian, render_histogram

FIELD = Extent(-50.0, 650.0, -50.0, 450.0)


def test_extent_of_camera_pixels():
    assert Extent.of_camera(7, 5, 100.0) == FIELD
    assert Extent.of_camera(2, 1, 100.0, x_px=10, y_px=20) == Extent(
        950.0, 1150.0, 1950.0, 2050.0
    )
    assert FIELD.shape(10.0) == (50, 70)
    assert FIELD.shape(300.0) == (2, 3)
    assert Extent(0.0, 0.3, 0.0, 0.1 + 0.2).shape(0.1) == (3, 3)


@pytest.mark.parametrize(
    ("width", "height", "pixel", "expected"),
    [(97, 61, 100, 10), (1024, 1024, 108, 10), (2048, 2048, 108, 20), (9, 9, 0.1, 10)],
)
def test_a_whole_chip_can_be_drawn(width, height, pixel, expected):
    field = Extent.of_camera(width, height, pixel)
    assert field.usual_pixel_nm() == expected
    assert np.prod(field.shape(field.usual_pixel_nm())) < 1.4e8


def test_histogram_counts_where_they_lie():
    picture = render_histogram(
        [-50.0, 649.9, 100.0, 100.0, 650.0, np.nan],
        [-50.0, 449.9, 60.0, 60.0, 10.0, 10.0],
        pixel_nm=100.0,
        extent=FIELD,
    )
    expected = np.zeros((5, 7))
    expected[0, 0] = expected[4, 6] = 1
    expected[1, 1] = 2
    np.testing.assert_array_equal(picture, expected)


@given(
    st.lists(
        st.tuples(st.floats(-80, 700), st.floats(-80, 500), st.floats(0, 60)),
        max_size=30,
    ),
    st.sampled_from([7.0, 10.0, 33.0]),
)
def test_no_localization_is_lost_at_the_border(rows, pixel):
    x, y, sigma = np.array(rows, float).reshape(-1, 3).T
    inside = (x >= -50) & (x < 650) & (y >= -50) & (y < 450)
    blurred = render_gaussian(x, y, pixel_nm=pixel, sigma_nm=sigma, extent=FIELD)
    np.testing.assert_allclose(blurred.sum(), inside.sum(), atol=1e-9)
    counted = render_histogram(x, y, pixel_nm=pixel, extent=FIELD)
    assert counted.sum() == inside.sum()
    assert blurred.shape == counted.shape
    assert blurred.min(initial=0.0) >= 0.0


def test_gaussian_has_its_centre_and_width():
    picture = render_gaussian(
        [312.0], [203.0], pixel_nm=10.0, sigma_nm=25.0, extent=FIELD
    )
    x, y = np.arange(-45.0, 650.0, 10.0), np.arange(-45.0, 450.0, 10.0)
    across, down = picture.sum(0), picture.sum(1)
    np.testing.assert_allclose([across @ x, down @ y], [312.0, 203.0], atol=0.01)
    width = across @ (x - 312.0) ** 2
    np.testing.assert_allclose(width, 25.0**2 + 10.0**2 / 12, rtol=5e-3)


def test_no_width_is_a_histogram():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 600, 50), rng.uniform(0, 400, 50)
    settings = {"pixel_nm": 20.0, "extent": FIELD, "weights": rng.uniform(0, 5, 50)}
    np.testing.assert_allclose(
        render_gaussian(x, y, sigma_nm=0.0, **settings),
        render_histogram(x, y, **settings),
        atol=1e-6,
    )


def test_mixed_widths_add_up():
    x, y, sigma = [100.0, 300.0, 500.0], [100.0, 200.0, 300.0], [3.0, 80.0, 12.0]
    together = render_gaussian(x, y, pixel_nm=10.0, sigma_nm=sigma, extent=FIELD)
    one_by_one = sum(
        render_gaussian([u], [v], pixel_nm=10.0, sigma_nm=s, extent=FIELD)
        for u, v, s in zip(x, y, sigma, strict=True)
    )
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_field_around_the_data():
    picture = render_histogram([100.0, 200.0], [0.0, 50.0], pixel_nm=10.0)
    assert picture.sum() == 2
    assert picture.shape == (6, 11)


def test_empty_picture():
    for picture in (
        render_histogram([], [], pixel_nm=100.0, extent=FIELD),
        render_gaussian([], [], pixel_nm=100.0, sigma_nm=5.0, extent=FIELD),
    ):
        np.testing.assert_array_equal(picture, np.zeros((5, 7)))


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        pytest.param(([], []), {}, id="no field"),
        pytest.param(([1.0], [1.0, 2.0]), {}, id="lengths"),
        pytest.param(([1.0], [1.0]), {"pixel_nm": 0.0}, id="no pixel"),
        pytest.param(([1.0], [1.0]), {"weights": [1.0, 2.0]}, id="weights"),
        pytest.param(([0.0, 1e9], [0.0, 1e9]), {}, id="too large"),
        pytest.param(([1.0], [1.0]), {"extent": Extent(0, 0, 0, 9)}, id="empty field"),
    ],
)
def test_unusable_input_is_refused(rows, settings):
    with pytest.raises(InputError, match="render"):
        render_histogram(*rows, **{"pixel_nm": 10.0, **settings})


def test_negative_width_is_refused():
    with pytest.raises(InputError, match="sigma"):
        render_gaussian([1.0], [1.0], pixel_nm=10.0, sigma_nm=-1.0)


def test_brightness_never_falls():
    colours = cubehelix().astype(float)
    np.testing.assert_array_equal(colours[[0, -1]], [[0, 0, 0], [255, 255, 255]])
    # Rec. 709 luminance of linear light: rounding to 8 bits is the only ripple.
    luminance = (colours / 255) ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert np.diff(luminance).min() >= 0


def test_display_scaling():
    np.testing.assert_allclose(
        to_unit([[0.0, 1.0], [2.0, 4.0]], quantile=1.0), [[0, 0.25], [0.5, 1]]
    )
    np.testing.assert_allclose(
        to_unit([0.0, 1.0, 4.0], quantile=1.0, gamma=0.5)[1], 0.5
    )
    np.testing.assert_array_equal(to_unit([np.nan, -3.0, 0.0]), np.zeros(3))
    # One very bright pixel does not darken the rest.
    picture = np.ones(10_001)
    picture[0] = 1e6
    np.testing.assert_allclose(to_unit(picture), np.ones(10_001))


def test_colours_of_a_picture():
    rgb = to_rgb(np.array([[0.0, 1.0, 2.0]]), quantile=1.0)
    assert rgb.shape == (1, 3, 3)
    np.testing.assert_array_equal(rgb[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(rgb[0, 2], [255, 255, 255])


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: to_unit([1.0], quantile=0.0), id="quantile"),
        pytest.param(lambda: to_unit([1.0], gamma=0.0), id="gamma"),
        pytest.param(lambda: cubehelix(1), id="levels"),
    ],
)
def test_unusable_display_settings_are_refused(call):
    with pytest.raises(InputError):
        call()


def read_png(data):
    """Pixels of a PNG whose rows are not filtered, and its texts."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, texts, header = 8, b"", {}, None
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
        elif kind == b"tEXt":
            key, value = body.split(b"\0")
            texts[key.decode()] = value.decode()
        at += 12 + length
    width, height, depth, colour = header[:4]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    np.testing.assert_array_equal(rows[:, 0], 0)
    pixels = np.ascontiguousarray(rows[:, 1:]).view(f">u{depth // 8}")
    return pixels.reshape(height, width, channels), texts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "shape", [(5, 7), (1, 1), (4, 6, 1), (3, 5, 2), (3, 5, 3), (2, 3, 4)]
)
def test_png_holds_the_pixels(shape, dtype):
    top = np.iinfo(dtype).max
    picture = np.random.default_rng(0).integers(0, top, shape, dtype, endpoint=True)
    pixels, _ = read_png(png_bytes(picture))
    np.testing.assert_array_equal(pixels.reshape(shape), picture)


def test_png_file_reads_in_another_program(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    picture = np.random.default_rng(0).integers(0, 255, (9, 14, 3), np.uint8)
    path = write_png(tmp_path / "a.png", picture[:, ::-1], pixel_nm=12.5)
    np.testing.assert_allclose(image.imread(path) * 255, picture[:, ::-1], atol=1e-3)
    assert read_png(path.read_bytes())[1] == {"pixel_nm": "12.5"}


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.zeros((3, 4)), id="float"),
        pytest.param(np.zeros((3, 4, 5), np.uint8), id="five channels"),
        pytest.param(np.zeros(3, np.uint8), id="a line"),
        pytest.param(np.zeros((0, 4), np.uint8), id="empty"),
    ],
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(InputError, match="PNG"):
        png_bytes(picture)


def test_folder_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot write the picture"):
        write_png(tmp_path / "none" / "a.png", np.zeros((2, 2), np.uint8))
