"""PSF, camera and photophysics."""
