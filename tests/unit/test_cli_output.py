"""Output of the commands: in every encoding, literal, and never cut in a pipe."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Column
from trialstream_console.cli import logs, output, progress
from trialstream_schemas.errors import SpoolError
from trialstream_schemas.messages import counted, printable

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202eb [link=http://x]c[/link] [/] :bug: [bold]d"
SHOWN = r"a\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202eb [link=http://x]c[/link] [/] :bug: [bold]d"


def trialstream(*arguments, encoding="utf-8", **environment):
    """Run a command, and return its exit code and the bytes of stdout and stderr."""
    ran = subprocess.run(
        [sys.executable, "-m", "trialstream_console.cli", *map(str, arguments)],
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"} | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_a_number_has_its_noun_in_the_singular_or_the_plural():
    """The noun is that of the number; of an irregular one, the plural is given."""
    assert [counted(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert [counted(n, "batch waits", "batches wait") for n in (1, 2)] == ["1 batch waits", "2 batches wait"]


def test_no_command_writes_a_plural_behind_a_number_that_may_be_one():
    """Commands count with `counted`: no text of theirs has a number in braces before a noun in the plural."""
    nouns = "trials|rows|values|records|events|schemas|documents|bytes|batches|partitions|rules|ranks|workers|spools"
    folder = Path(output.__file__).parent
    texts = [*folder.glob("*.py"), *(folder.parent / "alerts").glob("*.py")]
    found = [
        f"{path.name}: {line.strip()}"
        for path in texts
        for line in path.read_text().splitlines()
        if re.search(rf"\}} (more )?({nouns})\b", line) and "expected at most" not in line
    ]

    assert len(texts) > 20
    assert found == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_lines_and_tables_in_narrow_encodings(monkeypatch, encoding):
    """A character that the encoding lacks becomes a question mark, in lines, tables and steps."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    output.allow_any_encoding()
    output.say("trial → läuft ✓")
    output.print_table(("name",), [("→",)])
    with progress.Steps(output.new_console()) as steps:
        steps("→ start", "✓ detail")
    shown = raw.getvalue().decode(encoding)

    assert f"trial ? {'läuft' if encoding == 'latin-1' else 'l?uft'} ?" in shown
    assert "? ? start" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_commands_in_narrow_encodings(tmp_path, encoding):
    """A command whose output has other characters ends as usual, without a traceback."""
    code, out, err = trialstream("status", "--data", tmp_path / "→é", encoding=encoding)

    assert (code, err) == (1, b"")
    assert b"stopped" in out
    assert b"/?" in out


def test_lines_are_literal(capsys):
    """Control characters are shown as escapes, markup and emoji codes as they are."""
    output.say(HOSTILE)
    output.say_error(SpoolError(HOSTILE))
    output.say("a\n\tb")
    output.say("a\n\tb", one_line=False)

    assert capsys.readouterr() == (f"{SHOWN}\na\\n\\tb\na\n        b\n", f"error: {SHOWN}\n")


def test_other_writing_systems_and_emoji_are_kept():
    """Only unsafe characters are escaped: combined emoji and text of every direction are shown."""
    text = "größe 训练 שלום مرحبا 👩‍🔬 é\u00a0"

    assert printable(text, one_line=True) == text


def test_file_names_that_are_not_text(capsys):
    """A file name that is not UTF-8 can be printed."""
    output.say(os.fsdecode(b"a\xff"))

    assert capsys.readouterr().out == "a\\udcff\n"


def test_cells_are_literal_and_on_one_line(capsys):
    """In a table, line feeds and tabs are escaped too, so a name cannot make a row of its own."""
    output.print_table(("name", "other"), [(HOSTILE, "x"), ("a\nb\tc", "y")])
    [_, first, second] = capsys.readouterr().out.splitlines()

    assert first.split("  ")[0].strip() == SHOWN
    assert second.split()[0] == r"a\nb\tc"


def test_steps_and_bars_are_literal(monkeypatch):
    """Steps and bars show their names literally, also on a terminal."""
    screen = io.StringIO()
    monkeypatch.setattr(output, "Console", lambda **how: Console(file=screen, force_terminal=True, width=400, **how))
    monkeypatch.setattr(progress, "new_console", output.new_console)
    with progress.Steps(output.new_console()) as steps:
        steps(HOSTILE, HOSTILE)
    with progress.progress_bar() as report:
        report(HOSTILE, 1, 1)
    shown = screen.getvalue()

    assert "owned\x07" not in shown
    assert "\x1b[2J\r" not in shown
    assert shown.count(SHOWN) >= 2


def test_logs_are_literal(capsys):
    """Warnings of the library and errors of the fold are shown literally on stderr; logs in JSON stay JSON.

    Failed attempts of aiokafka are shown in the log of the consumer only.
    """
    import structlog

    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.log_printable()
        logging.getLogger("trialstream").warning("%s", HOSTILE)
        logging.getLogger("aiokafka.conn").error("attempt failed")
        plain = capsys.readouterr().err
        logs.log_errors_only()
        structlog.get_logger().error(HOSTILE, trial=HOSTILE)
        errors = capsys.readouterr().err
        logs.log_json(logging.INFO)
        structlog.get_logger("trialstream_consumer").error("event", trial=HOSTILE)
        logging.getLogger("aiokafka.conn").error("attempt failed")
        as_json, attempt = capsys.readouterr().err.splitlines()
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("trialstream", "aiokafka", "trialstream_consumer"):
            logging.getLogger(name).setLevel(logging.NOTSET)

    assert plain == f"{SHOWN}\n"
    assert errors.count(SHOWN) == 2
    assert "\x1b" not in errors
    assert json.loads(as_json)["trial"] == HOSTILE
    assert json.loads(attempt)["event"] == "attempt failed"


def test_tables_in_a_pipe_are_not_cut(capsys, monkeypatch):
    """In a file or a pipe every row is one whole line, whatever COLUMNS and FORCE_COLOR say."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    rows = [("x" * 300, "a name of many words " * 20), ("y", "z")]
    output.print_table((Column("uid", no_wrap=True), "name"), rows)
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 3
    assert rows[0][0] in lines[1]
    assert rows[0][1].strip() in lines[1]
    assert max(map(len, lines)) < 1000


def test_tables_fit_a_terminal(monkeypatch):
    """On a terminal a table is as wide as the terminal."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    output.print_table(("name",), [("word " * 30,)])

    words = screen.getvalue().splitlines()[1:]
    assert len(words) > 1
    assert max(map(len, words)) <= 40


@pytest.mark.parametrize("command", ["export", "import"])
def test_archives_are_files(command):
    """`-` as an archive is refused with the reason; nothing of that name is made."""
    code, _, err = trialstream(command, "-")

    assert code == 2
    assert b"expected the path of a file, got '-'" in b" ".join(err.replace(b"\xe2\x94\x82", b"").split())
    assert not os.path.lexists("-")
