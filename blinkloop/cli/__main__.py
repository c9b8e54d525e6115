"""`python -m blinkloop.cli`, for machines where scripts are not on the path."""

from __future__ import annotations

from blinkloop.cli._frame import main

main(prog_name="blinkloop")
