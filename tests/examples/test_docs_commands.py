"""Every `blinkloop ...` line of the README and docs/ names a verb and its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from blinkloop.cli import main as cli
from blinkloop.cli._frame import VERBS

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def commands(text: str) -> list[str]:
    """Lines of code blocks, and `code` in sentences; continued lines are joined."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^(?:    |\t)?(?:\$ )?(blinkloop [a-z].*)$", text, re.M)
    spans = [" ".join(s.split()) for s in re.findall(r"`(blinkloop [a-z][^`]*)`", text)]
    return [part.strip() for line in blocks + spans for part in line.split("&&")]


def fault(line: str) -> str | None:
    """What the parser does not know in a line; None: nothing."""
    _, *words = shlex.split(line, comments=True)
    if words[0].startswith("-"):
        return None
    if words[0] not in VERBS:
        return f"there is no verb {words[0]}"
    root = cli.make_context("blinkloop", ["--help"], resilient_parsing=True)
    command = cli.get_command(root, words[0])
    assert command is not None
    with click.Context(command, info_name=words[0]) as context:
        known = {name for p in command.get_params(context) for name in p.opts}
    unknown = [
        word
        for word in (w.strip("[],.").partition("=")[0] for w in words[1:])
        if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in known
    ]
    return f"{words[0]} has no option {unknown[0]}" if unknown else None


SAID = [
    pytest.param(line, id=f"{page.stem}: {line}"[:70])
    for page in PAGES
    for line in commands(page.read_text(encoding="utf-8"))
    if line.startswith("blinkloop ")
]


@pytest.mark.parametrize("line", SAID)
def test_a_command_in_the_docs_exists(line: str) -> None:
    assert fault(line) is None


def test_commands_are_found_and_faults_seen() -> None:
    assert len(SAID) > 20
    text = "Type `blinkloop fit\nm.tif`.\n\n    blinkloop fly x \\\n      --far\n"
    assert commands(text) == ["blinkloop fly x        --far", "blinkloop fit m.tif"]
    assert fault("blinkloop fly x") == "there is no verb fly"
    assert fault("blinkloop fit m.tif --wings 2  # no") == "fit has no option --wings"
    assert fault("blinkloop fit m.tif -m M [--camera FILE]") is None
