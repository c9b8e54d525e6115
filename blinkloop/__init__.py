"""blinkloop: DECODE-style single-molecule localization, live at the microscope."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
