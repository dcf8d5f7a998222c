"""A protocol belongs to one process and to asyncio: not pickled, not copied, not opened under trio or gevent."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import trialstream as ts
import trialstream.sync


def _plain(tmp_path):
    return ts.connect(offline=True, spool_dir=str(tmp_path))


def _sync(tmp_path):
    return trialstream.sync.connect(offline=True, spool_dir=str(tmp_path))


def _read_only(_):
    return ts.connect(read_only=True)


def _sync_read_only(_):
    return trialstream.sync.connect(read_only=True)


@pytest.mark.parametrize("make", [_plain, _sync, _read_only, _sync_read_only])
@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_protocols_are_not_copied(make, duplicate, tmp_path):
    """Pickling and copying raise a TypeError that says what to do, also within other objects."""
    protocol = make(tmp_path)
    with pytest.raises(TypeError, match=r"Protocol: .*open another one in the child process"):
        duplicate(protocol)
    if duplicate is not copy.copy:
        with pytest.raises(TypeError, match="open another one in the child process"):
            duplicate({"of": [protocol]})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle(protocol, tmp_path):
    """An open protocol is refused by every version of pickle, and stays usable."""
    with _sync(tmp_path) as opened:
        with pytest.raises(TypeError, match=r"^SyncProtocol: "):
            pickle.dumps(opened, protocol)
        opened.new_trial(ts.Trial(name="t"))

        assert opened.statistics().queued == 1


@pytest.mark.parametrize("make", [_plain, _read_only])
def test_without_asyncio(make, tmp_path):
    """Under another event loop, opening raises ProtocolClosed; the protocol can then be opened under asyncio."""
    opening = make(tmp_path).open()
    with pytest.raises(ts.ProtocolClosed, match=r"expected a running asyncio event loop.*trio.*trialstream\.sync"):
        opening.send(None)  # as another loop does


GREEN = """
from gevent import monkey
monkey.patch_all()
import asyncio, sys
import trialstream as ts
import trialstream.sync
settings = {"offline": True, "spool_dir": sys.argv[1]}
for opening in (
    lambda: asyncio.run(ts.connect(**settings).open()),
    lambda: trialstream.sync.connect(**settings).open(),
    lambda: trialstream.sync.connect(read_only=True).open(),
):
    try:
        opening()
    except ts.ProtocolClosed as error:
        print(error)
"""


def test_under_gevent(tmp_path):
    """With gevent in the place of threads, opening raises ProtocolClosed: they stand still while a step computes."""
    ended = subprocess.run(
        [sys.executable, "-c", GREEN, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )

    [said] = set(ended.stdout.splitlines())
    assert said.startswith("expected threads of the operating system, got those of gevent")
    assert len(ended.stdout.splitlines()) == 3
