from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from blinkloop.cli import main
from blinkloop.cli._frame import VERBS, Frame
from blinkloop.errors import CheckFailedError, InputError, MissingExtraError

VERB_MODULE = '''
import logging
import warnings
import click
from blinkloop import errors

@click.command("verb")
@click.argument("what")
@click.option("--count", type=int)
@click.pass_context
def command(ctx, what, count):
    """Do one thing."""
    click.echo("worked")
    logging.getLogger("blinkloop.verb").warning("a log")
    logging.getLogger("blinkloop.verb").debug("a detail")
    if what == "input":
        raise errors.InputError("movie.tif: not a TIFF\\n  got text; give a TIFF")
    if what == "check":
        raise errors.CheckFailedError("differs by 3")
    if what == "extra":
        raise errors.MissingExtraError("Reading TIFF", "tifffile", "io")
    if what == "bug":
        raise KeyError("x")
    if what == "stop":
        raise KeyboardInterrupt
    if what == "exit":
        ctx.exit(7)
    if what == "code":
        return 1
'''


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Frame:
    (tmp_path / "frame_verb.py").write_text(VERB_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "frame_verb", raising=False)
    return Frame({"verb": "frame_verb", "later": "frame_later"}, name="blinkloop")


def invoke(frame: Frame, *arguments: str) -> Result:
    return CliRunner().invoke(frame, arguments, prog_name="blinkloop")


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        pytest.param("fine", 0, "", id="done"),
        pytest.param("code", 1, "", id="returned code"),
        pytest.param("exit", 7, "", id="exit of click"),
        pytest.param(
            "input", 2, "error: movie.tif: not a TIFF got text; give a TIFF", id="input"
        ),
        pytest.param("check", 1, "error: differs by 3", id="check"),
        pytest.param(
            "extra",
            2,
            "error: Reading TIFF needs the package 'tifffile', which is not installed; "
            'install it with: pip install "blinkloop[io]"',
            id="extra",
        ),
        pytest.param(
            "bug",
            1,
            "error: KeyError: 'x'; run again with --debug to see where",
            id="bug",
        ),
        pytest.param("stop", 130, "interrupted", id="interrupt"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    frame: Frame, what: str, code: int, text: str
) -> None:
    result = invoke(frame, "verb", what)
    assert result.exit_code == code
    assert result.stdout == "worked\n"
    # click ends the line that a terminal began with ^C, hence the empty line
    said = [line for line in result.stderr.splitlines() if line]
    assert said == ["warning: a log", *filter(None, [text])]


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(("what", "code"), [("input", 2), ("bug", 1)])
def test_debug_shows_traceback_and_details(
    frame: Frame, where: str, what: str, code: int
) -> None:
    words = (
        ["--debug", "verb", what] if where == "before" else ["verb", what, "--debug"]
    )
    frame.params.append(main.params[0]) if where == "before" else None
    result = invoke(frame, *words)
    assert result.exit_code == code
    assert "Traceback (most recent call last)" in result.stderr
    assert "debug: a detail" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "run again" not in result.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nothing",), "error: No such command 'nothing'; see: blinkloop --help"),
        (("later",), "error: No such command 'later'; see: blinkloop --help"),
        (("--odd",), "error: No such option '--odd'; see: blinkloop --help"),
        (("verb",), "error: Missing argument 'WHAT'; see: blinkloop verb --help"),
        (
            ("verb", "fine", "--count", "many"),
            "error: Invalid value for '--count': 'many' is not a valid integer;"
            " see: blinkloop verb --help",
        ),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    frame: Frame, words: tuple[str, ...], text: str
) -> None:
    result = invoke(frame, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.lower().split() == f"{text}\n".lower().split()


def test_absent_verb_does_not_break_help(frame: Frame) -> None:
    result = invoke(frame, "--help")
    assert result.exit_code == 0
    assert "verb" in result.stdout
    assert "Do one thing." in result.stdout
    assert "later" not in result.stdout


def test_library_use_raises_as_click_does(frame: Frame) -> None:
    with pytest.raises(InputError), warnings.catch_warnings():
        frame.main(["verb", "input"], standalone_mode=False)


def test_logs_end_with_the_command(
    frame: Frame, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    invoke(frame, "verb", "fine")
    assert logging.getLogger("blinkloop").handlers == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (MissingExtraError("A", "b", "c"), 2),
        (CheckFailedError("x"), 1),
    ],
)
def test_exit_codes_of_errors(error: InputError, code: int) -> None:
    assert error.exit_code == code


def test_table_has_the_verbs_of_the_design() -> None:
    wanted = (
        "demo doctor models calibrate prefit train evaluate export verify fit run "
        "replay bench convert render frc"
    )
    assert list(VERBS) == wanted.split()


@pytest.mark.parametrize("verb", main.list_commands(click.Context(main)))
def test_help_of_every_verb_has_a_sentence_and_an_example(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"], prog_name="blinkloop")
    assert result.exit_code == 0, result.stderr
    assert (
        f"blinkloop {verb}" in result.stdout.partition("Options:")[0].split("\n", 1)[1]
    )
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert command.get_short_help_str(200).endswith(".")


@pytest.mark.parametrize("words", [["-m", "blinkloop.cli", "--version"]])
def test_runs_as_a_module(words: list[str]) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("blinkloop, version ")


def test_closed_pipe_is_no_traceback() -> None:
    code = "from blinkloop.cli import main; main(['doctor', '--help'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    text = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert text == b""
