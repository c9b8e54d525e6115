"""`run --pycromanager`: camera and laser of a Micro-Manager that runs, or of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.pycromanager import CamelCore, PycroCamera

__all__ = ["PycroManager", "pycromanager_options"]

_PORT = 4827


@dataclass(frozen=True, slots=True)
class PycroManager:
    """What a person said of Pycro-Manager.

    Parameters
    ----------
    wanted
        Frames come through it.
    port
        Of the Micro-Manager that runs; None = the usual one.
    """

    wanted: bool
    port: int | None

    def open(self, config: Path | None) -> CamelCore:
        """Connect to Micro-Manager, or load a configuration into this process.

        A camera that runs belongs to somebody, perhaps with a laser held by its images:
        neither it nor the laser is touched then.
        """
        from blinkloop.integrations.pycromanager import (
            connect,
            refuse_running,
            start_python_backend,
        )

        if config is None:
            core = connect(port=self.port or _PORT)
            refuse_running(core)
            return core
        if self.port is not None:
            raise InputError(
                "--config loads the devices into this process, --port leads to a "
                "Micro-Manager that has its own; give one of the two"
            )
        return start_python_backend(config)

    @staticmethod
    def camera(
        core: CamelCore,
        device: str | None,
        frames: int | None,
        exposure_ms: float | None,
    ) -> PycroCamera:
        """Its camera as a source of frames."""
        from blinkloop.integrations.pycromanager import PycroCamera

        return PycroCamera(
            core, camera=device, n_frames=frames, exposure_ms=exposure_ms
        )


def pycromanager_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--pycromanager` and `--port`; the command gets them as `pycro`."""
    from functools import wraps

    @click.option(
        "--pycromanager",
        is_flag=True,
        help="Use the Micro-Manager that runs, or, with --config, Pycro-Manager's "
        "Python backend.",
    )
    @click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help=f"Of Micro-Manager's server, with --pycromanager.  [default: {_PORT}]",
    )
    @wraps(command)
    def wrapped(
        *args: Any, pycromanager: bool, port: int | None, watch: Any = None, **more: Any
    ) -> Any:
        if port is not None and not pycromanager:
            raise InputError("--port needs --pycromanager; give both or none")
        if watch is not None and pycromanager:
            raise InputError(
                "--watch follows a movie, --pycromanager a camera; give one of the two"
            )
        pycro = PycroManager(pycromanager, port)
        return command(*args, pycro=pycro, watch=watch, **more)

    return wrapped
