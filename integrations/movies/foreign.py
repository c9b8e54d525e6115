"""Files of other kinds, told by their first bytes or ending, and what to do with them.

Design notes
------------
These could not be tried with real files, and their own programs and Bio-Formats export
all of them without loss.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["foreign_kind"]

_Row = tuple[str, tuple[bytes, ...], tuple[str, ...], str]
"""What it is, first bytes, endings, what to do."""

_FIJI = "Fiji (File > Import > Bio-Formats, then File > Save As > Tiff)"
_VENDORS: tuple[_Row, ...] = (
    ("an old version of Nikon .nd2", (), (".nd2",), f"NIS-Elements or {_FIJI}"),
    ("Leica .lof, .xlef, ...", (), (".lof", ".xlef", ".xlif"), f"LAS X or {_FIJI}"),
    ("Olympus", (), (".oir", ".oib", ".vsi"), f"its program or {_FIJI}"),
    ("an old version of Imaris .ims", (), (".ims",), _FIJI),
    ("compressed FITS or a .tsm", (), (".fits", ".fit", ".fz", ".tsm"), _FIJI),
)
_OTHERS: tuple[_Row, ...] = (
    (
        "is a NumPy archive of several arrays",
        (),
        (".npz",),
        "save the movie alone with numpy.save",
    ),
    (
        "is a MATLAB file of an old version",
        (b"MATLAB 5.0",),
        (".mat",),
        "save it in MATLAB with save(name, 'movie', '-v7.3'), or as TIFF",
    ),
    (
        "is a zipped Zarr folder",
        (),
        (".zip", ".ozx"),
        "unpack it and give the folder",
    ),
    (
        "is a video, whose compression changes the values of pixels",
        (b"RIFF", b"\0\0\0\x18ftyp", b"\0\0\0\x1cftyp", b"\0\0\0\x20ftyp"),
        (".avi", ".mp4", ".mov", ".mkv"),
        "give the movie as the camera recorded it, e.g. as 16 bit TIFF",
    ),
    (
        "is a picture for looking at",
        (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8"),
        (".png", ".jpg", ".jpeg", ".bmp", ".gif"),
        "give the movie as the camera recorded it, e.g. as 16 bit TIFF",
    ),
    (
        "is a table",
        (),
        (".csv", ".txt", ".tsv", ".xlsx"),
        "give the movie that it was made from",
    ),
)


def foreign_kind(path: Path, head: bytes) -> str | None:
    """What a file is and what to do, for behind its name; None when nobody knows.

    Parameters
    ----------
    path
        The file.
    head
        Its first bytes, 16 or so.
    """
    ending = path.suffix.lower()
    for name, marks, endings, program in _VENDORS:
        if (marks and head.startswith(marks)) or ending in endings:
            return (
                f"is a file of {name}, which blinkloop does not read; export it as "
                f"TIFF (16 bit, not scaled) with {program}"
            )
    for what, marks, endings, advice in _OTHERS:
        if (marks and head.startswith(marks)) or ending in endings:
            return f"{what}; {advice}"
    return None
