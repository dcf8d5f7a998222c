"""Files of an export: for their user alone, and never written through a link."""

from __future__ import annotations

import logging
import os
import stat
from types import SimpleNamespace

import pytest
import trialstream as ts
from trialstream.export import export_csv, export_tensorboard, tensorboard


@pytest.fixture
async def protocol():
    """A protocol in memory with a trial that has a metric."""
    async with ts.connect("memory:") as protocol:
        trial = await protocol.new_trial(ts.Trial(name="t"))
        await protocol.log_trial_metrics(trial, step=1, loss=0.5)
        yield protocol


async def _csv(protocol, folder):
    await export_csv(protocol, None, folder)
    return [folder / "trials.csv", folder / "metrics.csv"]


async def _tensorboard(protocol, folder):
    [uid] = await export_tensorboard(protocol, None, folder)
    return [folder / uid / "events.out.tfevents.0.trialstream"]


@pytest.mark.parametrize("export", [_csv, _tensorboard])
async def test_exports_are_for_their_user_alone(protocol, tmp_path, export):
    """New folders have mode 0700 and files 0600, whatever the umask is."""
    old = os.umask(0)
    try:
        written = await export(protocol, tmp_path / "out")
    finally:
        os.umask(old)

    assert {stat.S_IMODE(each.lstat().st_mode) for each in written} == {0o600}
    assert {stat.S_IMODE(each.parent.stat().st_mode) for each in written} == {0o700}


@pytest.mark.parametrize("export", [_csv, _tensorboard])
async def test_exports_follow_no_links(protocol, tmp_path, export):
    """Links in the place of a file, or of its temporary name, are replaced; what they point to stays as it was."""
    target = tmp_path / "target"
    target.write_text("before")
    written = await export(protocol, tmp_path / "out")
    for each in written:
        content = each.read_bytes()
        each.unlink()
        each.symlink_to(target)
        each.with_name(f".{each.name}.part").symlink_to(target)
    await export(protocol, tmp_path / "out")

    assert target.read_text() == "before"
    assert written[-1].read_bytes() == content
    assert all(sorted(each.parent.iterdir()) == sorted(written) for each in written)


async def test_a_uid_that_is_a_path_is_left_out(protocol, tmp_path, monkeypatch, caplog):
    """A uid from the log names a folder below that of the export, or nothing at all."""
    real = tensorboard.trials_of

    async def hostile(protocol, query):
        async for page in real(protocol, query):
            yield [SimpleNamespace(uid=uid) for uid in ("../a_0", "/tmp/a_0", "..", "")] + page

    monkeypatch.setattr(tensorboard, "trials_of", hostile)
    with caplog.at_level(logging.WARNING, "trialstream"):
        written = await export_tensorboard(protocol, None, tmp_path / "out")

    assert len(written) == 1
    assert [each.name for each in (tmp_path / "out").iterdir()] == list(written)
    assert len(caplog.messages) == 4
