"""PSF calibration: from bead stacks, and from other programs' files."""
