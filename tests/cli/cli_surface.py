"""The surface of the command line as text: verbs, arguments, options, defaults.

Scripts of other people depend on it, so a change must be meant: it is written down in
`surface.txt`, and after a change by

    python tests/cli/cli_surface.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from blinkloop.cli import main

SURFACE = Path(__file__).with_name("surface.txt")


def describe(parameter: click.Parameter) -> str:
    """One line: names, type, how many, default."""
    kind = "flag" if getattr(parameter, "is_flag", False) else parameter.type.name
    if isinstance(parameter.type, click.Choice):
        kind = "|".join(str(choice) for choice in parameter.type.choices)
    words = [" ".join([*parameter.opts, *parameter.secondary_opts]), kind]
    if parameter.nargs != 1 or parameter.multiple:
        words.append("many")
    if parameter.required:
        words.append("required")
    default = parameter.default
    if kind != "flag" and isinstance(default, str | int | float | Path):
        words.append(f"default={default}")
    return " ".join(words)


def surface() -> str:
    """The whole surface, one line per verb and parameter."""
    context = click.Context(main)
    lines = ["blinkloop"]
    lines += sorted(f"  {describe(parameter)}" for parameter in main.params)
    for verb in main.list_commands(context):
        command = main.get_command(context, verb)
        assert command is not None
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        options = [p for p in command.params if not isinstance(p, click.Argument)]
        lines.append(f"blinkloop {verb}")
        lines += [f"  {describe(argument).upper()}" for argument in arguments]
        lines += sorted(f"  {describe(option)}" for option in options)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        SURFACE.write_text(surface(), encoding="utf-8")
    print(surface(), end="")
