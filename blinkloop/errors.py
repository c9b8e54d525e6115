"""Errors that a person can act on.

Every error says what went wrong, what was got, why it matters and what to do; the
command line prints it as one line. Exit codes: 1 a check failed, 2 usage or bad input.
"""

from __future__ import annotations

__all__ = [
    "BlinkloopError",
    "CheckFailedError",
    "DeviceError",
    "DisarmedError",
    "InputError",
    "MissingExtraError",
]


class BlinkloopError(Exception):
    """Base of all errors blinkloop raises on purpose; `exit_code` is the shell's."""

    exit_code = 1


class InputError(BlinkloopError):
    """Bad input or usage: a file, a value, a model or a setting that cannot be used."""

    exit_code = 2


class MissingExtraError(InputError):
    """A feature needs a package that is not installed.

    Parameters
    ----------
    feature
        What was asked for, e.g. "Reading TIFF movies".
    package
        The missing package, e.g. "tifffile".
    extra
        The extra of blinkloop that brings it, e.g. "io".
    """

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed; "
            f'install it with: pip install "blinkloop[{extra}]"'
        )
        self.package = package
        self.extra = extra


class CheckFailedError(BlinkloopError):
    """A comparison or verification ran and did not pass."""


class DeviceError(BlinkloopError):
    """A camera, laser or other device failed, vanished or refused a command."""


class DisarmedError(DeviceError):
    """A laser takes no commands, as it was made safe; no fault of the device."""
