"""`blinkloop render`: a picture of localizations."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._locs import Locs, locs_options, read_locs
from blinkloop.cli._options import FiniteRange, json_option
from blinkloop.cli._output import next_step, note, print_json
from blinkloop.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blinkloop.render import Extent

__all__ = ["command"]

_INSIDE = 0.999
"""Share of localizations that must lie in the camera's field for it to be drawn."""
_WIDEST_PX = 2.0
"""Localizations less sure than this many camera pixels would be a veil over all."""


@click.command("render", short_help="Draw a table of localizations.")
@locs_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PNG",
    help="Picture to write.",
)
@click.option(
    "--pixel-nm",
    type=FiniteRange(0, min_open=True),
    help="Pixel of the picture; default: 10, more for a huge field.",
)
@click.option(
    "--method",
    type=click.Choice(["gaussian", "histogram"]),
    default="gaussian",
    show_default=True,
    help="Each with its own precision, or counted per pixel.",
)
@click.option(
    "--blur-nm",
    type=FiniteRange(0),
    help="SD of every Gaussian instead of its own precision.",
)
@click.option(
    "--by-z",
    is_flag=True,
    help="Colour by depth: the lowest 2 % blue, over green, the highest 2 % red.",
)
@click.option(
    "--gamma",
    type=FiniteRange(0, min_open=True),
    default=0.7,
    show_default=True,
    help="Below 1 lifts what is dim.",
)
@click.option("--overwrite", is_flag=True, help="Allow replacing PNG.")
@json_option
def command(
    locs: Path,
    frames: str | None,
    pixel_size_nm: float | None,
    out: Path,
    pixel_nm: float | None,
    method: str,
    blur_nm: float | None,
    by_z: bool,
    gamma: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw LOCS, any table that convert reads, as a PNG.

    x to the right, y down, from black over violet, red and yellow to white; the
    brightest 0.1 % of the lit pixels are white. With --by-z brightness is the number
    and colour the depth.

    Example: blinkloop render locs.hdf5 -o locs.png --pixel-nm 10
    """
    import numpy as np

    from blinkloop.colour import to_depth_rgb
    from blinkloop.integrations.formats.files import refuse_existing, whole_files
    from blinkloop.render import (
        render_gaussian,
        render_histogram,
        to_rgb,
        write_png,
    )

    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: pictures are written as .png; give such a name")
    if method == "histogram" and blur_nm is not None:
        raise InputError("--blur-nm is for --method gaussian; leave one of them away")
    refuse_existing([out], overwrite=overwrite)
    table = read_locs(locs, frames, pixel_size_nm)
    size_nm, data = table.pixel_size_nm, table.data
    x_nm, y_nm = data["x_px"] * size_nm, data["y_px"] * size_nm
    extent = _field(table)
    if pixel_nm is None:
        # Coarser than the camera is no picture: a few lie far off, which is then said.
        pixel_nm = min((extent or _around(x_nm, y_nm)).usual_pixel_nm(), size_nm)
    if method == "histogram":
        draw = functools.partial(render_histogram, x_nm, y_nm)
    else:
        sigma_nm = _sigma_nm(table, blur_nm)
        draw = functools.partial(render_gaussian, x_nm, y_nm, sigma_nm=sigma_nm)
    draw = functools.partial(draw, pixel_nm=pixel_nm, extent=extent)
    picture = draw()
    drawn = round(float(picture.sum()))
    depths = {}
    if by_z:
        z_nm = data["z_nm"].astype(float)
        low, high = (float(q) for q in np.quantile(z_nm, (0.02, 0.98)))
        if not low < high:
            raise InputError(f"{locs} holds no depth (2D?); leave --by-z away")
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_nm = draw(weights=z_nm) / picture
        colours = to_depth_rgb(picture, mean_nm, low, high, gamma=gamma)
        depths = {"z_blue_nm": low, "z_red_nm": high}
    else:
        colours = to_rgb(picture, gamma=gamma)
    with whole_files([out], overwrite=overwrite) as (temporary,):
        write_png(temporary, colours, pixel_nm=pixel_nm)
    height, width = picture.shape
    if as_json:
        print_json(
            {
                "localizations": len(data),
                "localizations_drawn": drawn,
                "pixel_nm": pixel_nm,
                "width": width,
                "height": height,
                "out": str(out),
                **depths,
            }
        )
        return
    left = "" if drawn == len(data) else f" of {len(data)}"
    note(
        f"{drawn}{left} localizations, {width} x {height} px of {pixel_nm:g} nm: {out}"
    )
    if depths:
        note("z: {z_blue_nm:.0f} nm blue, {z_red_nm:.0f} nm red".format(**depths))
    next_step("blinkloop", "frc", locs)


def _sigma_nm(table: Locs, blur_nm: float | None) -> npt.NDArray[np.float64]:
    """SD to draw each localization with; NaN for those to leave out."""
    import numpy as np

    data = table.data
    if blur_nm is not None:
        return np.full(len(data), blur_nm)
    own_px = np.sqrt((data["x_sigma_px"] ** 2.0 + data["y_sigma_px"] ** 2.0) / 2)
    sigma_nm = np.where(own_px <= _WIDEST_PX, own_px * table.pixel_size_nm, np.nan)
    if not np.isfinite(sigma_nm).any():
        raise InputError(
            "the table holds no usable precision; give --blur-nm, or take --method "
            "histogram"
        )
    return np.asarray(sigma_nm, np.float64)


def _around(x_nm: npt.NDArray[Any], y_nm: npt.NDArray[Any]) -> Extent:
    """From the lowest to the highest."""
    import numpy as np

    from blinkloop.render import Extent

    known = np.isfinite(x_nm) & np.isfinite(y_nm)
    if not known.any():
        raise InputError("the table holds no position to draw")
    x, y = x_nm[known], y_nm[known]
    return Extent(float(x.min()), float(x.max()), float(y.min()), float(y.max()))


def _field(table: Locs) -> Extent | None:
    """The camera's field where it is known and holds the localizations."""
    import numpy as np

    from blinkloop.render import Extent

    meta, size_nm = table.meta, table.pixel_size_nm
    x, y, width, height = meta.get("roi_px") or (
        0,
        0,
        meta.get("width_px"),
        meta.get("height_px"),
    )
    if not width or not height:
        return None
    field = Extent.of_camera(int(width), int(height), size_nm, int(x), int(y))
    x_nm, y_nm = table.data["x_px"] * size_nm, table.data["y_px"] * size_nm
    inside = (x_nm >= field.x_low_nm) & (x_nm < field.x_high_nm)
    inside &= (y_nm >= field.y_low_nm) & (y_nm < field.y_high_nm)
    return field if np.mean(inside) >= _INSIDE else None
