"""Isolation: events of one trial, group or project change nothing of another, whatever ids they choose."""

from __future__ import annotations

import copy
from random import Random

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import FIRST, HASHES, Dice, creation, update
from profiles import examples
from projection import Projection
from trialstream_consumer.fold import State
from trialstream_schemas.model.identity import group_uid
from trialstream_schemas.wire import events as e

VICTIM, ATTACKER = HASHES
# The ids that the victim uses, and the attacker too.
REQUESTS = ["new-0", "new-1", "up-0", "up-1", "reg-0", "reg-1"]
WRITERS = ["w1", "w2"]


def of(event, hash_, dice):
    """Let an event be one of a hash, with an address of any form and the ids of both sides."""
    request = dice.choice(REQUESTS)
    addresses = [f"{hash_}_0", f"{hash_}_1", f"{hash_}~{request}", f"{hash_}~{VICTIM}_0", f"{hash_}_0~{request}"]
    event.trial = f"{hash_}~{request}" if isinstance(event, e.TrialCreated) else dice.choice(addresses)
    event.writer = dice.choice(WRITERS)
    if event.request is not None:
        event.request = request
    for part in getattr(event, "updates", ()):
        part.trial, part.writer = event.trial, event.writer
    return event


def part(hash_):
    """Return a strategy of logs of one hash, which begin with the creation of a trial."""

    def log(seeds):
        first = copy.deepcopy(FIRST)
        first.trial = f"{hash_}~new-0"
        made = [first]
        for seed in seeds:
            dice = Dice(seed)
            event = of(creation(dice) if dice.once_in(5) else update(dice), hash_, dice)
            if event.request is None:
                event.seq = 1 + sum(each.writer == event.writer and each.request is None for each in made)
            made.append(event)
        return made

    return st.lists(st.integers(0, 2**32), max_size=16).map(log)


def registry(seeds):
    """Return a log of the registry: projects and groups that are named as trials and their addresses."""
    made = []
    for seed in seeds:
        dice = Dice(seed)
        given_ids = {"writer": dice.choice(WRITERS), "time": 0, "request": dice.choice(REQUESTS)}
        name = dice.choice([VICTIM, f"{VICTIM}_0", f"{VICTIM}~new-0", "p", "p~new-0"])
        made.append(
            dice.choice(
                [
                    e.ProjectCreated(project=name, name=name, **given_ids),
                    e.GroupCreated(group=group_uid(name, None), name=name, **given_ids),
                    e.GroupMetadataSet(group=group_uid(name, None), values={"a": seed}, **given_ids),
                ]
            )
        )
    return made


def shuffled(logs, dice):
    """Return the events of several logs in a random order that keeps that of each log, with the number of the log."""
    left = [[number] * len(log) for number, log in enumerate(logs)]
    order = [number for each in left for number in each]
    dice.shuffle(order)
    rest = [iter(log) for log in copy.deepcopy(logs)]
    return [(number, next(rest[number])) for number in order]


def together(logs, partitions, seed, *, reload):
    """Fold logs into one projection, each in its partition, in batches of random sizes.

    Args:
        logs: The logs.
        partitions: Number of the partition of each log.
        seed: Seed of the order and the batches.
        reload: Whether each batch has a state read from the documents, or that of the partition.
    """
    dice, projection, states = Random(seed), Projection(), {}
    waiting = {partition: [] for partition in partitions}
    for number, event in [*shuffled(logs, dice), *((None, None) for _ in waiting)]:
        batch = waiting[partitions[number]] if number is not None else next(filter(None, waiting.values()), [])
        batch += [] if event is None else [event]
        if batch and (event is None or dice.random() < 0.4):
            partition = next(each for each, held in waiting.items() if held is batch)
            projection.fold(batch, None if reload else states.setdefault(partition, State()))
            waiting[partition] = []
    return projection.documents


def alone(log):
    """Return the documents of a log that is folded by itself."""
    projection = Projection()
    projection.fold(copy.deepcopy(log), State())
    return projection.documents


@settings(max_examples=examples(150))
@given(part(VICTIM), part(ATTACKER), st.lists(st.integers(0, 2**32), max_size=8).map(registry), st.data())
def test_events_of_one_trial_change_nothing_of_another(victim, attacker, names, data):
    """Trials of two hashes and the registry have the documents that each has alone, in one partition or in several.

    All of them use the same requests and writers, and address each other's requests.
    """
    partitions = data.draw(st.sampled_from([(0, 0, 2), (0, 1, 2)]))
    seed, reload = data.draw(st.integers(0, 2**32)), data.draw(st.booleans())
    apart = [alone(victim), alone(attacker), alone(names)]
    note(f"documents: {sum(map(len, apart[0].values())) // 8 * 8}, reload: {reload}")

    found = together([victim, attacker, names], partitions, seed, reload=reload)

    for collection, documents in found.items():
        assert documents == {id_: raw for each in apart for id_, raw in each[collection].items()}
        assert len(documents) == sum(len(each[collection]) for each in apart)


@given(st.sampled_from(REQUESTS), st.booleans())
def test_an_address_with_the_request_of_another_trial_is_that_of_no_trial(request, applied):
    """An event of one hash that names the request of another changes nothing, and is refused."""
    created = copy.deepcopy(FIRST)
    created.request, created.trial = request, f"{VICTIM}~{request}"
    claim = e.StatusSet(
        trial=f"{ATTACKER}~{request}", writer="w", time=0, status=e.StatusRecord("Broken", 203),
        **({"request": request} if applied else {"seq": 1}),
    )  # fmt: skip
    before = alone([created])

    projection = Projection()
    projection.fold([copy.deepcopy(created)])
    projection.fold([claim])

    assert [reason for _, reason in projection.dead_letters] == [f"there is no trial '{ATTACKER}~{request}'"]
    changed = {name: {**found} for name, found in projection.documents.items()}
    changed["outcomes"].pop(f"{ATTACKER}~{request}", None)
    assert changed == before
