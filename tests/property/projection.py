"""The documents of one partition in memory, as real BSON: the store without MongoDB."""

from __future__ import annotations

import copy
import itertools

import bson
from trialstream_consumer.fold import Changes, State, fold_groups, needs, resolve, row_groups
from trialstream_schemas.model.history import Bucket
from trialstream_schemas.storage import documents, outcomes


class Projection:
    """Documents of one partition; loads the needs of a batch, folds it, and writes the changes."""

    def __init__(self):
        self.documents = {each: {} for each in ("trials", "groups", "projects", "series", "outcomes")}
        self.dead_letters = []
        self.folded = 0

    def fold(self, batch, state=None):
        """Fold a batch on a given state, or on one loaded from the documents; return the state."""
        state = self.load(batch) if state is None else state
        refused = fold_groups(state, batch, row_groups(batch))
        self.dead_letters += [(self.folded + position, reason) for position, reason in refused]
        self.folded += len(batch)
        self.write(state)
        return state

    def load(self, batch):
        """Return a new state with the needs of the batch, and nothing else."""
        wanted = needs(batch)
        state = State()
        for id_ in wanted.outcomes:
            found = {each: self.read("outcomes", each) for each in outcomes.stored_outcome_ids(id_)}
            state.outcomes[id_] = outcomes.stored_outcome(id_, found)
        uids = {resolve(state, address) for address in wanted.trials} - {None}
        state.trials = {uid: self.parsed("trials", uid, documents.trial_from_document) for uid in uids}
        state.groups = {uid: self.parsed("groups", uid, documents.group_from_document) for uid in wanted.groups}
        state.projects = {uid: self.parsed("projects", uid, documents.project_from_document) for uid in wanted.projects}
        for hash_ in wanted.hashes:
            state.revisions[hash_] = sum(uid.startswith(f"{hash_}_") for uid in self.documents["trials"])
        for address, shape in wanted.shapes:
            uid = resolve(state, address)
            if uid is not None:
                state.buckets[uid, shape] = self.parsed("series", Bucket(uid, shape).open_id, Bucket.from_document)
        return state

    def write(self, state):
        """Write the changes of a state."""
        changes, state.changes = state.changes, Changes()
        for uid in changes.trials:
            self.put("trials", documents.trial_to_document(state.trials[uid]))
        for uid in changes.groups:
            self.put("groups", documents.group_to_document(state.groups[uid]))
        for uid in changes.projects:
            self.put("projects", documents.project_to_document(state.projects[uid]))
        for bucket in changes.filled:
            self.put("series", bucket.to_document(full=True))
        for key in changes.buckets:
            self.put("series", state.buckets[key].to_document(full=False))
        for outcome in changes.outcomes:
            self.put("outcomes", outcomes.outcome_to_document(outcome))

    def put(self, collection, document):
        """Insert or replace a document."""
        self.documents[collection][document["_id"]] = bson.encode(document)

    def read(self, collection, uid):
        """Return a document, or None."""
        stored = self.documents[collection].get(uid)
        return stored and bson.decode(stored)

    def parsed(self, collection, uid, from_document):
        """Return the structure of a document, or None."""
        found = self.read(collection, uid)
        return found and from_document(found)


def project(log, cuts=(), *, reload=False):
    """Project a log in batches that end at the cuts; with `reload` each batch has a state read from documents."""
    projection, state = Projection(), State()
    bounds = [0, *sorted(set(cuts)), len(log)]
    for start, stop in itertools.pairwise(bounds):
        batch = copy.deepcopy(log[start:stop])
        state = projection.fold(batch, None if reload else state)
    return projection
