"""Schema evolution: every version reads the events of every released version.

`avro/released/<Event>/<fingerprint>.avsc` is every version of a schema that a released trialstream has written; logs
keep such events. To add the current schemas, once, before a release:

    .venv/bin/python tests/unit/test_schema_evolution.py
"""

from __future__ import annotations

import itertools
import json
from importlib.resources import files
from pathlib import Path

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from trialstream_schemas.wire.schemas import SCHEMAS, fingerprint

RELEASED = Path(str(files("trialstream_schemas").joinpath("avro", "released")))
CURRENT = {json.loads(text)["name"].rpartition(".")[2]: json.loads(text) for text in SCHEMAS.values()}
VERSIONS = {
    event: {path.stem: json.loads(path.read_text()) for path in sorted((RELEASED / event).glob("*.avsc"))}
    for event in CURRENT
}


def release():
    """Write every current schema that is not among the released ones to a file."""
    for event, schema in CURRENT.items():
        path = RELEASED / event / f"{fingerprint(schema).hex()}.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(schema, indent=2) + "\n")


def undocumented(schema):
    """Return the schema without its docs, which may change."""
    if isinstance(schema, dict):
        return {key: undocumented(each) for key, each in schema.items() if key != "doc"}
    return [undocumented(each) for each in schema] if isinstance(schema, list) else schema


def reads(reader, writer):
    """Return whether a reader's schema reads data of a writer's schema, and the reasons if it does not."""
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer))
    )
    return result.compatibility is SchemaCompatibilityType.compatible, result.messages


@pytest.mark.parametrize("event", CURRENT)
def test_current_schema_is_released(event):
    """Every schema that this version writes is among the released ones."""
    key = fingerprint(CURRENT[event]).hex()

    assert key in VERSIONS[event], (
        f"the schema of {event} has changed. If that is intended, add it before the release: "
        "`.venv/bin/python tests/unit/test_schema_evolution.py`, and commit the new file beside the old ones."
    )


@pytest.mark.parametrize("event", CURRENT)
def test_every_version_reads_every_other(event):
    """Any two versions of an event read each other (FULL_TRANSITIVE): fields come and go with defaults."""
    for reader, writer in itertools.permutations([*VERSIONS[event].values(), CURRENT[event]], 2):
        compatible, why = reads(reader, writer)
        assert compatible, why


def test_different_schemas_have_different_fingerprints():
    """Different schemas have different fingerprints; these omit defaults and logical types, which cannot change."""
    by_key: dict[str, list] = {}
    every = [*CURRENT.items(), *((event, each) for event, versions in VERSIONS.items() for each in versions.values())]
    for event, schema in every:
        by_key.setdefault(fingerprint(schema).hex(), []).append((event, undocumented(schema)))

    for key, same in by_key.items():
        assert all(each == same[0] for each in same), (
            f"{same[0][0]}: two schemas differ and share the fingerprint {key}, so no reader could tell them apart; "
            "make the change with a new field"
        )


@pytest.mark.parametrize("event", CURRENT)
def test_released_files_are_named_by_their_fingerprints(event):
    """Each file is named by the fingerprint of its schema, and contains all named types of it."""
    for key, schema in VERSIONS[event].items():
        assert fingerprint(schema).hex() == key
        assert schema["name"] == f"trialstream.{event}"
        avro.schema.parse(json.dumps(schema))


def test_every_released_event_has_a_schema():
    """Every released event still has a schema, since logs keep its records."""
    assert {path.name for path in RELEASED.iterdir() if path.is_dir()} == set(CURRENT)


# --- Tests of the checks above

HEARTBEAT = CURRENT["Heartbeat"]


def changed(**change):
    """Return the schema of Heartbeat with its field `seq` changed."""
    fields = [{**each, **change} if each["name"] == "seq" else each for each in HEARTBEAT["fields"]]
    return {**HEARTBEAT, "fields": fields}


def with_field(**field):
    """Return the schema of Heartbeat with one more field."""
    return {**HEARTBEAT, "fields": [*HEARTBEAT["fields"], {"name": "load", "doc": "d", **field}]}


@pytest.mark.parametrize(
    ("other", "forward", "backward"),
    [
        pytest.param(with_field(type="double", default=0.0), True, True, id="a field with a default"),
        pytest.param(with_field(type=["null", "double"], default=None), True, True, id="an optional field"),
        pytest.param(with_field(type="double"), False, True, id="a field without a default"),
        pytest.param(changed(type="string"), False, False, id="another type"),
        pytest.param(changed(type="int"), False, True, id="a narrower type"),
        pytest.param(changed(name="number"), False, False, id="another name"),
        pytest.param({**HEARTBEAT, "fields": HEARTBEAT["fields"][:-1]}, True, True, id="a removed optional field"),
        pytest.param({**HEARTBEAT, "fields": HEARTBEAT["fields"][1:]}, True, False, id="a removed required field"),
        pytest.param({**HEARTBEAT, "name": "trialstream.Pulse"}, False, False, id="another record"),
    ],
)
def test_incompatible_changes_are_detected(other, forward, backward):
    """The checker flags a change in exactly the directions in which it breaks readers."""
    assert reads(other, HEARTBEAT)[0] == forward
    assert reads(HEARTBEAT, other)[0] == backward


def test_nested_changes_are_detected():
    """A change of the recursive Value inside a map is flagged as well."""
    text = json.dumps(CURRENT["TagsAdded"])
    narrower = json.loads(text.replace('"boolean", ', ""))

    assert narrower != CURRENT["TagsAdded"]
    assert reads(CURRENT["TagsAdded"], narrower)[0]
    assert not reads(narrower, CURRENT["TagsAdded"])[0]


def test_shared_fingerprints_are_possible():
    """A default that changes does not change the fingerprint, which is why the check above is needed."""
    one, other = (with_field(type="long", default=n) for n in (1, 2))

    assert fingerprint(one) == fingerprint(other)
    assert undocumented(one) != undocumented(other)


if __name__ == "__main__":
    release()
