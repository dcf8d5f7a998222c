"""The query language: what texts mean, where faults are, what can be completed."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest
import trialstream as ts
from trialstream.reading.paths import TRIAL_FIELDS
from trialstream.reading.query import translate
from trialstream_console.queries import Column, WhereError, complete, parse_columns, parse_sort, parse_where
from trialstream_console.queries.conditions import write
from trialstream_console.queries.parsing import MAX_CONDITIONS, MAX_DEPTH, MAX_TEXT, MAX_TOKENS, parse

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)

# Texts, and the trials of `some_trials` that they match.
MEANINGS = {
    "": "abcd",
    "   ": "abcd",
    "a1": "a",
    "A1": "a",
    '"RES"': "ab",
    "name ~ '^b'": "b",
    "name !~ '^b'": "acd",
    "name ~ '(?i)res.*'": "ab",
    "name ~ '\\d$'": "bcd",
    "name = 'a1 res'": "",
    "name = a1.res": "a",
    "status = running": "a",
    "status == Running": "a",
    "status != Running": "bcd",
    "status in (Running, Completed)": "ab",
    "status not in (Running, Completed)": "cd",
    "status ~ 'unn'": "a",
    "status contains 'unn'": "a",
    "status.code >= 300": "b",
    "status exists": "abcd",
    "parameters.lr < 0.1": "a",
    "parameters.lr <= 1e-1": "ab",
    "parameters.lr > .05 and parameters.lr < 1": "b",
    "parameters.lr = inf": "c",
    "parameters.lr = nan": "d",
    'parameters.opt in ("adam", sgd)': "ab",
    "parameters.opt not in (adam)": "bcd",
    "parameters.opt = null": "cd",
    "parameters.opt exists": "abc",
    "has parameters.opt and not parameters.opt = null": "ab",
    'parameters."my key" = 1': "a",
    "parameters.'my key' = 1.0": "a",
    'parameters."a.b" = true': "b",
    r"parameters.a\.b = true": "b",
    'parameters."ключ"."x y" = "(="': "c",
    "parameters.ключ exists": "c",
    'parameters."" = 0': "d",
    "tags contains best": "a",
    "tags contains 'no such'": "",
    "tags.list contains x": "a",
    "tags.list contains 1": "a",
    "tags.list contains y": "b",
    "tags.list contains xy": "",
    "tags.text contains 'b.'": "a",
    "tags.text contains 'B'": "",
    "tags.text = '5'": "b",
    "tags.text = 5": "",
    "not (status = Running or status = Completed)": "cd",
    "not not status = Running": "a",
    "status = Running or status = Completed and parameters.lr = 3": "a",
    "(status = Running or status = Completed) and parameters.lr = 0.1": "b",
    "NOT lost AND created > 1h ago and created < now": "abcd",
    "created > 2000-01-01 and created > '2000-01-01 10:00' and created > 2000-01-01T10:00:00Z": "abcd",
    "created < 3D ago": "",
    "started exists": "ab",
    "finished = null": "acd",
    "last_seen < 0.5h ago or starts >= 1": "ab",
    "lost": "",
    "metrics.loss.last < 0.5": "a",
    'metrics."val/acc 5".last < 0.5 or metrics.val/acc.last = 2': "b",
}


@pytest.fixture(scope="module")
async def some_trials():
    """A protocol with four trials, whose names begin with a, b, c and d."""
    async with ts.connect("memory:") as protocol:
        a = ts.Trial(name="a1.res", parameters={"lr": 0.01, "opt": "adam", "my key": 1})
        b = ts.Trial(name="b1 RES 7", parameters={"lr": 0.1, "opt": "sgd", "a.b": True})
        c = ts.Trial(name="c1", parameters={"lr": float("inf"), "opt": None, "ключ": {"x y": "(="}})
        d = ts.Trial(name="d1", parameters={"lr": float("nan"), "": 0})
        a, b, c, d = [await protocol.new_trial(each) for each in (a, b, c, d)]
        await protocol.add_trial_tags(a, best=True, list=["x", 1], text="a b.c")
        await protocol.add_trial_tags(b, list="y", text="5")
        await protocol.log_trial_start(a)
        await protocol.log_trial_start(b)
        await protocol.log_trial_metrics(a, loss=0.1)
        await protocol.log_trial_metrics(b, **{"loss": 0.9, "val/acc": 2, "val/acc 5": 7})
        await protocol.log_trial_finish(b)
        yield protocol


@pytest.mark.parametrize(("text", "names"), MEANINGS.items(), ids=[repr(text) for text in MEANINGS])
async def test_what_a_text_matches(some_trials, text, names):
    """A text matches the trials that it means, and so does the text of what it was read as."""
    for each in (text, write(parse(text))):
        found = await some_trials.fetch_trials(parse_where(each), sort="name")

        assert "".join(trial.name[0] for trial in found) == names


FAULTS = {
    "a b": (
        2,
        "expected = != < <= > >=, ~ !~, 'in', 'not in', 'contains', 'exists', 'and', 'or' or the end of the text",
    ),
    "status": (6, "expected an operator after the path 'status'; quote it to search for it in names"),
    "parameters.lr or x": (13, "expected an operator after the path 'parameters.lr'"),
    "status =": (8, "expected a word or a quoted text, got the end of the text"),
    "status = Running and": (
        20,
        "expected a word, a quoted text, 'has', 'lost', 'not' or '(', got the end of the text",
    ),
    "(a": (2, "expected ')', got the end of the text"),
    "a)": (1, "expected the end of the text, got ')'"),
    "foo = 3": (0, "there is no field 'foo'"),
    "nam = 3": (0, "did you mean 'name'?"),
    "a and foo.bar = 3": (6, "there is no field 'foo'"),
    "'a' = 3": (4, "expected 'and', 'or' or the end of the text, got '='"),
    'parameters.x = "abc': (15, 'expected a closing " of the quoted text'),
    "parameters.x = 'abc\"": (15, "expected a closing ' of the quoted text"),
    'name ~ "("': (7, "is not a regular expression"),
    "name ~ 'a\0'": (7, "a pattern cannot hold NUL"),
    "created > 5": (10, "expected a datetime, a date, ISO 8601 text or None, got int"),
    "created > yesterday": (10, "expected an ISO 8601 time"),
    "created > 5y ago": (10, "expected a duration such as 30s, 10m, 2h, 3d or 1w before 'ago', got '5y'"),
    "created > 99999999w ago": (10, "expected a time after the year 1"),
    "name = 2h ago": (7, "expected a value of name, which is not a time, got a time"),
    "x ! 4": (2, "is it != or !~?"),
    "parameters. = 3": (11, "expected a key after 'parameters', got ''; write \"\" for an empty one"),
    "parameters..x = 3": (11, "expected a key after 'parameters'"),
    'parameters.a."b"c = 3': (16, "expected a dot between two keys, got 'c'"),
    "parameters.a\\b = 3": (11, "lone backslash"),
    "name = a\\": (8, "expected a character after the backslash"),
    "name = a.'b'": (7, "quote a text as a whole"),
    "parameters.x = 9223372036854775808": (15, "expected an integer of 64 bits"),
    "parameters.x = 1e999": (15, "expected a number in the range of doubles"),
    "name in (a, b": (13, "expected ')' or a comma, got the end of the text"),
    "name in (a,)": (11, "expected a word or a quoted text, got ')'"),
    "status < Running": (9, "query 'status.name' for others"),
    "tags contains 5": (14, "expected the text of a key of tags"),
    "name.x = \ud800": (9, "expected Unicode text, got a lone surrogate"),
    "created ~ x": (10, "a time does not match a pattern"),
    "name = ago": (7, "expected a word or a quoted text, got 'ago'"),
    " or ".join(["'a'"] * 17): (112, "expected at most 16 searches"),
    "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1): (MAX_DEPTH, f"expected at most {MAX_DEPTH} parentheses"),
    "(" * 5000 + "a" + ")" * 5000: (MAX_DEPTH, f"expected at most {MAX_DEPTH} parentheses"),
    "(" * 10_000 + "a" + ")" * 10_000: (MAX_TEXT, f"expected at most {MAX_TEXT} characters, got 20001"),
    "uid in (a" + ",a" * 2000 + ")": (8 + MAX_TOKENS - 3, f"expected at most {MAX_TOKENS} words and signs"),
    "x" * 65_536: (MAX_TEXT, f"expected at most {MAX_TEXT} characters, got 65536"),
    "starts = 1 or " * 101 + "starts = 1": (14 * MAX_CONDITIONS - 3, f"expected at most {MAX_CONDITIONS} conditions"),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.items(), ids=[repr(text[:30]) for text in FAULTS])
def test_a_fault_has_a_column(text, expected):
    """The error is a value that is not valid, says what was expected, and at which character."""
    with pytest.raises(WhereError) as raised:
        parse_where(text)

    column, message = expected
    assert (raised.value.column, message in str(raised.value)) == (column, True), str(raised.value)
    assert isinstance(raised.value, ts.InvalidValue)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.column) == (str(raised.value), column)


def test_the_largest_query_is_accepted():
    """The bounds of texts are within those of the reader, for conditions of every kind and for the deepest nesting."""
    worst = "not tags.list contains 1"
    deepest = "a or b and not (" * MAX_DEPTH + "tags.list contains x" + ")" * MAX_DEPTH
    for text in (
        " and ".join([worst] * MAX_CONDITIONS),
        " or ".join(["not lost"] * MAX_CONDITIONS),
        " or ".join(["not tags.list contains x"] * 16),
        deepest.replace("a or b", "starts = 1 or rows = 1"),
    ):
        assert translate(parse_where(text), TRIAL_FIELDS)


def test_relative_times_refer_to_now():
    """`ago`, `now` and `lost` refer to one time."""
    assert parse_where("created >= 90m ago", now=NOW) == {"created": {"$gte": NOW - timedelta(minutes=90)}}
    assert parse_where("created <= now", now=NOW) == {"created": {"$lte": NOW}}
    assert parse_where("lost", now=NOW)["last_seen"] == {"$lt": NOW - timedelta(seconds=60)}
    assert parse_where("name = now", now=NOW) == {"name": {"$eq": "now"}}


def test_columns_and_sort_keys():
    """Paths are separated by commas, and a comma in quotes is part of a key."""
    assert parse_columns('name, parameters."a, b" ,metrics.val/acc.last') == [
        "name",
        "parameters.a, b",
        "metrics.val/acc.last",
    ]
    assert parse_sort("-metrics.loss.last, name") == ["-metrics.loss.last", "name"]
    for text, column in {"name,": 5, "": 0, "name x": 5, "nme": 0, "name, =": 6, "name, parameters.": 17}.items():
        with pytest.raises(WhereError, match=rf"^columns, column {column}: "):
            parse_columns(text)
    with pytest.raises(WhereError, match=r"^sort, column 6: 'nme': there is no field 'nme', did you mean 'name'"):
        parse_sort("name,-nme")


COLUMNS = [
    Column("parameters.lr", "parameter", "number"),
    Column("parameters.my key", "parameter", "text", ("adam", 's"gd')),
    Column("metrics.loss.last", "metric", "number"),
    Column("created", "field", "time"),
]
# Texts, the index from which an item replaces them, and some items.
COMPLETIONS = {
    "sta": (0, ["state_version", "status", "starts", "started"]),
    "parameters.l": (0, ["parameters.lr"]),
    "loss": (0, ["metrics.loss.last"]),
    'status = Running and parameters."my k': (21, ['parameters."my key"']),
    "has par": (4, ["parameters", "participants", "parameters.lr", 'parameters."my key"', "former_participants"]),
    "status ": (7, ["=", "!=", "in", "not in", "~", "!~"]),
    "parameters.lr <": (14, ["<", "<="]),
    "parameters.lr n": (14, ["not in", "in"]),
    "status = ru": (9, ["RunningGroup", "Running", "Interrupted"]),
    "status = Running ": (17, ["and", "or"]),
    "status = Running an": (17, ["and"]),
    "(status = Running ": (18, ["and", "or", ")"]),
    "created > ": (10, ["now", "1h ago", "24h ago", "7d ago", "30d ago"]),
    "created > 2h ": (13, ["and", "or", "ago"]),
    "created > 2h a": (13, ["and", "ago"]),
    'parameters."my key" in (': (24, ['"adam"', '"s\\"gd"']),
    'parameters."my key" in ("a': (24, ['"adam"']),
    'parameters."my key" in (adam ': (29, [")", ","]),
    "foo bar": (4, []),
    ") ": (2, []),
}


@pytest.mark.parametrize(("text", "expected"), COMPLETIONS.items(), ids=[repr(text) for text in COMPLETIONS])
def test_completion(text, expected):
    """The items are those that can stand at the place, the ones that begin with its word first."""
    found = complete(text + " and more", len(text), COLUMNS)

    assert (found.begin, [each.text for each in found.items]) == expected


def test_completion_of_an_empty_text():
    """A text can begin with any field, any known path, and the words before conditions."""
    texts = [each.text for each in complete("", 0, COLUMNS).items]

    assert {*TRIAL_FIELDS, "parameters.lr", "not", "has", "lost", "("} <= {*texts}
