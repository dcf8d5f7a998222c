"""Values in messages: no name of another writer can move a cursor, turn a line around, or make a line of its own."""

from __future__ import annotations

import asyncio
import copy
import importlib
import inspect
import logging
import pickle
import pkgutil
import re
import unicodedata
import warnings
from dataclasses import fields

import pytest
import trialstream as ts
import trialstream_console
import trialstream_consumer
import trialstream_schemas
from hypothesis import given
from hypothesis import strategies as st
from trialstream.runtime.origin import warn
from trialstream_console.cli import output, trials
from trialstream_console.local.errors import LocalStackError
from trialstream_schemas.errors import TrialStreamError
from trialstream_schemas.messages import MAX_MESSAGE, in_message, printable, shown
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

HOSTILE = "a\x1b[2J\r\n\x07\t\x9b1m\u202e\u2066\u2069\u200e\u200f\u061c\u2028\u2029\x00\x7f\ud800b"
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def error_classes():
    """Return every class of error of all packages."""
    for package in (trialstream_schemas, ts, trialstream_consumer, trialstream_console):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                importlib.import_module(module.name)
            except ImportError:  # an integration whose framework is not installed
                continue
    found, todo = [], [TrialStreamError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return sorted(set(found), key=lambda each: each.__qualname__)


def test_every_error_shows_hostile_values_as_escapes():
    """Each class of error, also one with parameters of its own; pickled and copied errors say the same."""
    classes = error_classes()
    for each in classes:
        if "__init__" in vars(each) and each is not TrialStreamError:
            continue
        error = each(f"name {HOSTILE}: wrong")
        text = str(error)
        if each is LocalStackError:  # it quotes the end of a log
            text = text.replace("\n", "").replace("\t", "")

        assert not UNSAFE.search(text), each
        assert r"\x1b[2J\r" in text
        assert r"\u202e\u2066\u2069\u200e\u200f\u061c\u2028\u2029\x00\x7f\ud800b: wrong" in text
        assert str(pickle.loads(pickle.dumps(error))) == str(copy.copy(error)) == str(error)
    own = [each for each in classes if "__init__" in vars(each) and each is not TrialStreamError]
    for each in own:
        parameters = inspect.signature(each).parameters
        error = each(*[HOSTILE for x in parameters.values() if x.default is x.empty and x.kind is not x.VAR_POSITIONAL])
        assert not UNSAFE.search(str(error)), each
    assert len(classes) > 25


def test_a_message_is_cut():
    """A document of megabytes in a message makes a page of it, with its beginning and its end."""
    message = str(TrialStreamError("a" + "x" * 10_000_000 + "z"))

    assert len(message) == MAX_MESSAGE
    assert (message[0], message[-1]) == ("a", "z")
    assert "9990002 characters and more left out" in message


@given(st.text())
def test_printable_text_is_safe_and_safe_text_is_unchanged(text):
    """No unsafe character is left, printing twice changes nothing, and every other character is kept."""
    safe = printable(text, one_line=True)

    assert not UNSAFE.search(safe)
    assert all(unicodedata.category(each) not in ("Cc", "Cs", "Zl", "Zp") for each in safe)
    assert printable(safe, one_line=True) == safe
    if not UNSAFE.search(text):
        assert safe == text
    assert in_message(text) == safe


class Broken:
    """An object whose text is hostile, or none."""

    def __init__(self, text=None):
        self.text = text

    def __repr__(self):
        if self.text is None:
            raise RuntimeError(HOSTILE)
        return self.text


@pytest.mark.parametrize(
    "value",
    [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, HOSTILE.encode(errors="replace"), Broken(HOSTILE * 1000), Broken()],
    ids=["text", "list", "dict", "bytes", "repr", "a repr that fails"],
)
def test_any_value_is_shown_on_one_short_line(value):
    """A text of the object's own class is neither trusted nor shown whole."""
    text = shown(value)

    assert not UNSAFE.search(text)
    assert len(text) < 500


def test_integers_of_thousands_of_digits_are_shown_by_their_size():
    """Python refuses to write them."""
    assert shown(10**10_000) == "an int of 33220 bits"


@pytest.mark.parametrize("kind", [Trial, TrialGroup, Project])
def test_a_hostile_value_in_any_field_makes_a_safe_message(kind):
    """Names, keys of dicts and values: whichever check refuses it."""
    hostile = [
        HOSTILE,
        {HOSTILE: object()},
        {HOSTILE + "x" * 2000: 1},
        {"k": {HOSTILE: Broken(HOSTILE)}},
        Broken(HOSTILE),
    ]
    messages = []
    for field in fields(kind):
        for value in hostile:
            try:
                kind(**{"name": "n", field.name: value})
            except TrialStreamError as error:
                messages.append(str(error))

    assert len(messages) > 10
    assert not any(UNSAFE.search(each) for each in messages)
    assert max(map(len, messages)) < 2 * MAX_MESSAGE


QUERIES = [
    {HOSTILE: 1},
    {"name": {f"${HOSTILE}": 1}},
    {f"${HOSTILE}": []},
    {"name": {"$gt": 1, HOSTILE: 2}},
    {"name": {"$regex": f"({HOSTILE}"}},
    {"status": {HOSTILE: 1}},
    {"created": HOSTILE},
    {f"name.{HOSTILE}\\": 1},
    {"name": Broken(HOSTILE)},
    {"name": {"$in": Broken(HOSTILE)}},
]


async def test_calls_on_a_protocol_show_hostile_values_as_escapes():
    """Queries, fields, sorts, names and uids, with the checks of every call."""
    async with ts.connect("memory:") as protocol:
        project = await protocol.new_project(ts.Project(name="p"))
        trial = await protocol.new_trial(ts.Trial(name="p"))
        gone = ts.Trial(name="x\u202e\n")
        calls = [lambda query=query: protocol.fetch_trials(query) for query in QUERIES]
        calls += [
            lambda: protocol.fetch_trials(sort=HOSTILE),
            lambda: protocol.fetch_trials(fields=[HOSTILE]),
            lambda: protocol.fetch_values([HOSTILE]),
            lambda: protocol.fetch_metrics(trial, HOSTILE),
            lambda: protocol.fetch_metrics(trial, "x\u202ey"),
            lambda: protocol.fetch_metrics(gone),
            lambda: protocol.fetch_metrics(trial, section=HOSTILE),
            lambda: protocol.fetch_bands([trial], "x", by=HOSTILE),
            lambda: protocol.log_trial_metrics(trial, {HOSTILE: "x"}),
            lambda: protocol.log_trial_metrics(trial, {"x\u202e": object()}),
            lambda: protocol.log_trial_metadata(trial, {HOSTILE: object()}),
            lambda: protocol.add_trial_tags(trial, {"x\u202e": object()}),
            lambda: protocol.log_trial_start(gone),
            lambda: protocol.log_trial_chrono_finish(trial, "x\u202e\n"),
            lambda: protocol.set_trial_status(trial, HOSTILE),
            lambda: protocol.set_group_metadata(ts.TrialGroup(name="x\u202e\n"), a=1),
            lambda: protocol.add_project_trial(ts.Project(name="x\u202e\n"), trial),
            lambda: protocol.new_trial(ts.Trial(name="t", project_id="x\u202e\n")),
            lambda: protocol.fetch_and_update_trial({"name": "p"}, HOSTILE),
            lambda: protocol.commit(HOSTILE),
        ]
        for number, call in enumerate(calls):
            with pytest.raises(TrialStreamError) as error:
                await call()
            assert not UNSAFE.search(str(error.value)), number
            assert len(str(error.value)) < MAX_MESSAGE, number
        assert project.name == "p"


def test_warnings_are_one_safe_line():
    """A warning may quote an error of another library."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(f"trialstream: {HOSTILE}", None)

    assert not UNSAFE.search(str(caught[0].message))


def test_rows_and_lines_of_the_commands_are_safe(capsys, monkeypatch):
    """`trials` lists names of any writer; lines, notices and errors quote them."""
    name = HOSTILE.replace("\0", "").replace("\ud800", "")
    monkeypatch.setattr(trials, "run", lambda *_: [ts.Trial(name=name), ts.Trial(name="next", project_id=name)])
    trials.trials()
    trials.trials(as_json=True)
    output.say(HOSTILE)
    output.say_notice(HOSTILE)
    output.say_error(TrialStreamError(HOSTILE))
    out, err = capsys.readouterr()

    assert len(out.splitlines()) == 3 + 2 + 1
    assert len(err.splitlines()) == 2
    assert not UNSAFE.search((out + err).replace("\n", ""))


def test_nothing_else_is_logged(caplog):
    """The message of an error is not in the log too."""
    with caplog.at_level(logging.DEBUG), pytest.raises(ts.QueryError):
        asyncio.run(_refused())
    assert not UNSAFE.search(caplog.text.replace("\n", ""))


async def _refused():
    async with ts.connect("memory:") as protocol:
        await protocol.fetch_trials({HOSTILE: 1})
