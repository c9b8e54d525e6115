"""The frame around all verbs: lazy loading, errors in one line, exit codes.

Design notes
------------
The frame does not know what a verb does. A verb module is imported when the verb is
called or when its help is shown, and imports rooms only inside its function. A verb
returns None (exit code 0) or an exit code, or raises; it never prints an error itself.

Exit codes: 0 done, 1 a check failed or something unexpected happened, 2 usage or bad
input, 130 interrupted.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

import blinkloop
from blinkloop.cli._output import logs_to_stderr, thread_errors_to_stderr
from blinkloop.errors import BlinkloopError

__all__ = ["VERBS", "Frame", "main"]

VERBS: Mapping[str, str] = {
    "demo": "blinkloop.cli.demo",
    "doctor": "blinkloop.cli.doctor",
    "models": "blinkloop.cli.models",
    "calibrate": "blinkloop.cli.calibrate",
    "prefit": "blinkloop.cli.prefit",
    "train": "blinkloop.cli.train",
    "evaluate": "blinkloop.cli.evaluate",
    "export": "blinkloop.cli.export",
    "verify": "blinkloop.cli.verify",
    "fit": "blinkloop.cli.fit",
    "run": "blinkloop.cli.run",
    "replay": "blinkloop.cli.replay",
    "bench": "blinkloop.cli.bench",
    "convert": "blinkloop.cli.convert",
    "render": "blinkloop.cli.render",
    "frc": "blinkloop.cli.frc",
}
"""Verb -> module that exports its click command as `command`, in order of use."""

_HOOKS_S = 5.0
INTERRUPTED = 130
"""What a shell reports for a command that was stopped with Ctrl-C."""


@dataclass(slots=True)
class _State:
    """What options found while parsing tell the frame."""

    debug: bool = False


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    state = ctx.find_object(_State)
    if value and state is not None:
        state.debug = True


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,  # seen even when a later option cannot be used
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error, and debug logs.",
    )


class Frame(click.Group):
    """A click group that loads its verbs lazily and reports errors in one line.

    Parameters
    ----------
    verbs
        Verb -> module; the module exports a `click.Command` named `command`.
    **kwargs
        As for `click.Group`.
    """

    def __init__(self, verbs: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._verbs = dict(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs in the order of the table; one whose module is absent is left out."""
        return [
            verb
            for verb, module in self._verbs.items()
            if importlib.util.find_spec(module) is not None
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command; None when there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        loaded = importlib.import_module(self._verbs[cmd_name]).command
        if not isinstance(loaded, click.Command):
            raise TypeError(f"{self._verbs[cmd_name]}.command is not a click command")
        if all(param.name != "debug" for param in loaded.params):
            loaded.params.append(_debug_option())
        return loaded

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a verb and leave the process with its exit code.

        With ``standalone_mode=False`` it is click's own `main`: returns and raises.
        """
        state = _State()
        extra = {"obj": state, **extra}
        threads = set(threading.enumerate())
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            with (
                logs_to_stderr(lambda: state.debug),
                thread_errors_to_stderr(lambda: state.debug),
            ):
                result = super().main(args, prog_name, complete_var, False, **extra)
            code = result if isinstance(result, int) else 0
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of a pipe has gone (`blinkloop models | head -1`); nothing can
            # be said to it. Without a new stdout Python complains once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = 1
        except (KeyboardInterrupt, click.Abort):
            code = _report("interrupted", INTERRUPTED, state)
        except BlinkloopError as error:
            code = _report(f"error: {error}", error.exit_code, state)
        except click.ClickException as error:
            code = _report(f"error: {_usage_text(error)}", error.exit_code, state)
        except Exception as error:
            text = f"error: {type(error).__name__}: {error}"
            if not state.debug:
                text += "; run again with --debug to see where"
            code = _report(text, 1, state)
        return _leave(code, threads)


def _leave(code: int, threads: set[threading.Thread]) -> NoReturn:
    """End the process, also when a run left a thread behind that hangs."""
    ours = (t for t in threading.enumerate() if t.name.startswith("blinkloop-"))
    if any(thread not in threads for thread in ours):
        # Native code that still runs while Python shuts down aborts the process. The
        # exit hooks (a laser's safe value) come first; the files are closed already.
        # In a thread: those of a bridge wait for ever for a server that has gone.
        hooks = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
        hooks.start()
        hooks.join(_HOOKS_S)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _usage_text(error: click.ClickException) -> str:
    """Text of a usage error and where to read on."""
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return text
    return f"{text}; see: {context.command_path} --help"


def _report(text: str, code: int, state: _State) -> int:
    """Write one line to stderr, after the traceback when asked for it."""
    if state.debug:
        traceback.print_exc()
    click.echo(" ".join(text.split()), err=True)
    return code


main = Frame(
    VERBS,
    name="blinkloop",
    params=[_debug_option()],
    help=(
        "Single-molecule localization, live at the microscope.\n\n"
        "Start with: blinkloop demo"
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    no_args_is_help=True,
)
main = click.version_option(blinkloop.__version__, prog_name="blinkloop")(main)
