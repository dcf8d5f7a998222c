"""Every cache of the packages is bounded in bytes, and in the list below; one that is added without its bound fails."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from trialstream_schemas.model.aggregators import AggregatorSpec
from trialstream_schemas.model.caches import ByteCache, texts_bytes
from trialstream_schemas.wire import frames
from trialstream_schemas.wire.codec import SchemaStore, encode
from trialstream_schemas.wire.events import MetricsLogged
from trialstream_schemas.wire.limits import MAX_SCHEMAS_BYTES

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "schemas/trialstream_schemas",
    "producer/trialstream",
    "consumer/trialstream_consumer",
    "console/trialstream_console",
)
MIB = 1024 * 1024

# Functions with a cache of the standard library → bytes of all entries, and why there are no more.
FUNCTIONS = {
    "trialstream.pipeline.frames:_row_format": (MIB, "1,024 formats of one row, which repeat a code by a number"),
    "trialstream.pipeline.pipeline:_partition_of": (MIB, "4,096 hashes of trials"),
    "trialstream_console.dashboard.shapes:_fields": (MIB, "256 types of requests and answers, all of the program"),
    "trialstream_console.dashboard.shapes:_required": (MIB, "256 types of requests and answers, all of the program"),
    "trialstream_console.dashboard.static:_read": (4 * MIB, "64 files of the page, which has 400 KB"),
    "trialstream_console.dashboard.static:_compressed": (2 * MIB, "128 files of the page, which has 400 KB"),
    "trialstream_console.queries.grammar:new_parser": (MIB, "one entry: the grammar"),
    "trialstream_consumer.routing:_partition": (64 * MIB, "16,384 addresses"),
    "trialstream_schemas.model.keys:_cached": (9 * MIB, "4,096 keys of up to 128 characters"),
    "trialstream_schemas.wire.codec:_own_readers": (MIB, "one entry: the schemas of this version"),
    "trialstream_schemas.wire.frames:columns_size": (2 * MIB, "4,096 pairs of integers"),
}
# Modules' and classes' dicts whose keys come from outside → bytes of all entries. Those of `ByteCache` have the bound.
BYTE_CACHES = {
    "trialstream_consumer.fold.history:_shapes": 16 * MIB,
    "trialstream_consumer.fold.metrics:_distinct": 16 * MIB,
    "trialstream_consumer.memory.patterns:_compiled": 4 * MIB,
    "trialstream_schemas.model.status:_statuses": 256 * 1024,
    "trialstream_schemas.wire.frames:_encoded_shapes": 16 * MIB,
    "trialstream_schemas.wire.frames:_shapes": 16 * MIB,
    "trialstream_schemas.wire.rows:_masks": 16 * MIB,
    "trialstream.kafka.rows:RowChecks": 16 * MIB,
}
OTHERS = {
    "trialstream_schemas.wire.frames:_subjects": (16 * MIB, "16,384 subjects, whose texts have up to 63 bytes"),
    "trialstream_schemas.wire.codec:SchemaStore._known": (40 * MAX_SCHEMAS_BYTES, "MAX_SCHEMAS_BYTES"),
    "trialstream.tracking.track:_begun": (30 * MIB, "300 bytes a trial of this process, of which 100,000 are many"),
    "trialstream.event_log.schemas:SchemaTopic.texts": (2 * MAX_SCHEMAS_BYTES, "the schemas that its store accepts"),
    "trialstream_consumer.worker:PartitionWorker._state": (256 * MIB, "_CACHED_BYTES, checked between batches"),
}
# Empty containers of modules that are no caches: what they hold is open or registered, and their owners remove it.
REGISTRIES = {
    "trialstream.integrations.autologging:_undo",
    "trialstream.pipeline.held:_all",
    "trialstream.pipeline.held:_of_parents",
    "trialstream.pipeline.inbox:_inboxes",
    "trialstream.pipeline.inbox:_of_parents",
    "trialstream.runtime.loop:_loops",
    "trialstream.spool.locked:_opened",
    "trialstream.tracking.capture.captures:_active",
    "trialstream.tracking.context:_open",
    "trialstream.tracking.instrument:_instrumented_calls",
    "trialstream.tracking.termination:_received",
    "trialstream.tracking.termination:_watching",
    "trialstream_consumer.memory.backends:_named",
    "trialstream_schemas.model.aggregators.base:_KINDS",
}
_CACHES = {"lru_cache", "cache"}
_CONTAINERS = {
    "dict", "set", "list", "deque", "defaultdict", "OrderedDict", "Counter", "WeakSet", "WeakKeyDictionary",
    "WeakValueDictionary",
}  # fmt: skip


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules of the packages: name and syntax tree."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to((ROOT / package).parent).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def called(node: ast.expr) -> str:
    """Return the last name of what is called: `lru_cache` for `functools.lru_cache(maxsize=3)`."""
    while isinstance(node, (ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def assigned(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """Return the name and the value of an assignment."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.unparse(node.target), node.value
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]), node.value
    return None


def is_empty(value: ast.expr) -> bool:
    """Whether an expression makes an empty container."""
    if isinstance(value, ast.Dict):
        return not value.keys
    if isinstance(value, (ast.List, ast.Set)):
        return not value.elts
    return isinstance(value, ast.Call) and not value.args and called(value) in _CONTAINERS


def test_every_cache_of_a_function_is_listed():
    """Decorators and calls of `lru_cache` and `cache` are found in the source."""
    found = set()
    for module, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found |= {f"{module}:{node.name}" for each in node.decorator_list if called(each) in _CACHES}
            elif isinstance(node, ast.stmt) and (made := assigned(node)) and called(made[1]) in _CACHES:
                found.add(f"{module}:{made[0]}")

    assert found == set(FUNCTIONS)


def test_every_cache_of_bytes_is_listed_with_its_bound():
    """Each is bounded by `ByteCache` itself; the list has the sum of what a process may keep."""
    found = set()
    for module, tree in modules():
        for node in tree.body:
            if (made := assigned(node)) and called(made[1]) == "ByteCache":
                found.add(f"{module}:{made[0]}")
                assert getattr(import_module(module), made[0]).max_bytes == BYTE_CACHES[f"{module}:{made[0]}"]
            elif isinstance(node, ast.ClassDef) and "ByteCache(" in ast.unparse(node) and node.name != "ByteCache":
                found.add(f"{module}:{node.name}")

    assert found == set(BYTE_CACHES)


def test_every_empty_container_of_a_module_is_listed():
    """A module's dict that begins empty is a cache or a registry, so that no cache is made without a bound."""
    found = {
        f"{module}:{made[0]}"
        for module, tree in modules()
        for node in tree.body
        if (made := assigned(node)) and is_empty(made[1])
    }

    assert found == {each for each in OTHERS if each.count(".") and "." not in each.partition(":")[2]} | REGISTRIES


def test_the_bounds_in_all():
    """The caches of a process take 576 MiB at most in all, 256 MiB of which are the state of the fold."""
    bounds = [bound for bound, _ in [*FUNCTIONS.values(), *OTHERS.values()]] + list(BYTE_CACHES.values())

    assert sum(bounds) <= 576 * MIB


# --- The caches of bytes


def test_a_byte_cache_is_emptied_at_its_bound():
    """The entries never take more than the bound, and the last one is there."""
    cache: ByteCache[int, str] = ByteCache(10_000)
    for i in range(100):
        assert cache.keep(i, "x", 1000)
        assert cache.taken <= cache.max_bytes
        assert len(cache) <= 7
        assert cache[i] == "x"


def test_a_large_entry_is_not_kept():
    """An entry that would take more than a quarter leaves the others where they are."""
    cache: ByteCache[int, str] = ByteCache(10_000)
    cache.keep(1, "x", 10)

    assert not cache.keep(2, "x", 2500)
    assert dict(cache) == {1: "x"}


@pytest.fixture
def shapes(monkeypatch):
    """Empty caches of shapes, of a small bound."""
    monkeypatch.setattr(frames, "_subjects", {})
    monkeypatch.setattr(frames, "_shapes", found := ByteCache(100_000))
    return found


def test_frames_of_distinct_names_leave_no_more_than_the_bound(shapes):
    """No shape stays in memory, not even in a subject, once the cache of shapes was emptied."""
    store = SchemaStore()
    for i in range(400):
        names = tuple(f"{i} {j} " + "n" * 100 for j in range(30))
        event = MetricsLogged(
            trial=f"t{i}", writer="w", seq=1, time=1, aggregator=AggregatorSpec("stat"), names=names, times=(0,),
            columns=[(0.5,)] * 30,
        )  # fmt: skip
        assert store.decode(encode(event)).names == names

    kept = [each.shape for each in frames._subjects.values()]
    assert shapes.taken <= shapes.max_bytes
    assert 0 < len(kept) <= len(shapes)
    assert all(each is shapes[each.bytes] for each in kept)
    assert sum(texts_bytes(each.names) for each in kept) < shapes.max_bytes


def test_a_shape_that_is_too_large_to_be_kept(shapes):
    """Its frames are decoded nevertheless, each from its own bytes."""
    names = tuple(f"{j} " + "n" * 500 for j in range(300))
    event = MetricsLogged(
        trial="t", writer="w", seq=1, time=1, aggregator=AggregatorSpec("stat"), names=names, times=(0,),
        columns=[(0.5,)] * 300,
    )  # fmt: skip
    store = SchemaStore()

    assert [store.decode(encode(event)).names for _ in range(2)] == [names] * 2
    assert not shapes
