"""Spools in a folder that several users share, and in folders where others have planted something."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
import trialstream as ts
import trialstream.sync
from children import in_child, needs_root, output_of, shared_folder
from trialstream.config import Config
from trialstream.kafka.protocol import KafkaProtocol
from trialstream.pipeline.push import waiting_spools
from trialstream.spool.finding import abandoned, search
from trialstream.spool.folder import Spool
from trialstream.spool.refused import RefusedEvents
from trialstream.spool.segment import SpooledEvent
from trialstream_console.cli import spool as commands
from trialstream_schemas.errors import ConfigError, SpoolBusy, SpoolError

ADA, BOB = 12345, 12346
EVENT = SpooledEvent("trials", b"a", b"an event")


def modes(folder):
    """Return the permissions of all folders and files below a folder."""
    return {each.relative_to(folder).as_posix(): stat.S_IMODE(each.lstat().st_mode) for each in folder.rglob("*")}


def write(folder, writer="w", refused=False):
    """Write a spool of one event as the user of this process; return its folder."""
    config = Config(spool_dir=str(folder), offline=True)
    spool = Spool(config.spools / writer, config.prefix, writer, 10**9, base=config.spool_folder)
    spool.append([EVENT], on_disk=False, segment_bytes=1)
    if refused:
        RefusedEvents(spool).append(EVENT)
    spool.close()
    return spool.folder


@pytest.fixture(params=["000", "002", "022", "077"])
def umask(request):
    """Each of some masks of new files."""
    old = os.umask(int(request.param, 8))
    yield
    os.umask(old)


@pytest.mark.usefixtures("umask")
def test_a_spool_is_for_its_user_alone(tmp_path):
    """Folders have mode 0700 and files 0600, refused events too, whatever the umask is."""
    write(tmp_path / "spool", refused=True)
    (tmp_path / "spool" / "trialstream" / "w" / "00000001.avro").rename(tmp_path / "moved")

    assert modes(tmp_path) == {
        "spool": 0o700,
        "spool/trialstream": 0o700,
        "spool/trialstream/w": 0o700,
        "spool/trialstream/w/refused-00000001.avro": 0o600,
        "moved": 0o600,
    }


@pytest.mark.usefixtures("umask")
def test_an_offline_run_is_for_its_user_alone(tmp_path):
    """The same holds for what a protocol writes."""
    with trialstream.sync.connect(offline=True, spool_dir=tmp_path / "spool") as protocol:
        protocol.new_trial(ts.Trial(name="t"))

    assert {each for name, each in modes(tmp_path).items() if name.endswith(".avro")} == {0o600}
    assert {each for name, each in modes(tmp_path).items() if not name.endswith(".avro")} == {0o700}


def test_folders_of_earlier_versions_are_closed_to_others(tmp_path, caplog):
    """Folders of this user in `spool_dir` lose the rights of others, with a warning; `spool_dir` keeps its mode."""
    tmp_path.chmod(0o755)
    (tmp_path / "trialstream").mkdir()
    (tmp_path / "trialstream").chmod(0o775)
    with caplog.at_level(logging.WARNING, "trialstream"):
        write(tmp_path)

    assert (modes(tmp_path)["trialstream"], stat.S_IMODE(tmp_path.stat().st_mode)) == (0o700, 0o755)
    assert caplog.messages == [f"the mode of the spool's folder {tmp_path}/trialstream was 775, and is 700 now"]


@needs_root
def test_users_of_a_shared_folder_have_folders_of_their_own():
    """Each user writes to `uid-<number>`, finds the own spools only, and cannot look into those of others."""
    with shared_folder() as folder:
        ada, bob = (in_child(write, folder, uid=uid) for uid in (ADA, BOB))
        found = [in_child(abandoned, folder, uid=uid) for uid in (ADA, BOB)]
        foreign = in_child(search, folder, uid=BOB).foreign

        assert (ada, bob) == tuple(folder / f"uid-{uid}" / "trialstream" / "w" for uid in (ADA, BOB))
        assert found == [[ada], [bob]]
        assert list(foreign) == [folder / f"uid-{ADA}"]
        assert set(modes(folder).values()) == {0o700, 0o600}


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777], ids=oct)
def test_spools_of_others_are_named_and_left_alone(monkeypatch, mode):
    """`spool` and `push` name the folders of others, whatever their modes are, and do not fail on them."""
    monkeypatch.setenv("TRIALSTREAM_SPOOL_DIR", "/nowhere")
    with shared_folder() as folder:
        ada = in_child(write, folder, uid=ADA)
        for each in (ada, *ada.parents[:2]):
            each.chmod(mode)
        before = modes(folder)
        skipped = f"skipped {folder}/uid-{ADA}: it belongs to the user {ADA}; include it with --allow-other-owner\n"
        for command in (commands.spool, commands.push):
            assert in_child(output_of, command, [folder], uid=BOB) == ("no events to send\n", skipped, None)

        assert modes(folder) == before


@needs_root
def test_root_is_another_user(monkeypatch):
    """Root, who may read everything, leaves the spools of others alone, too, unless they are included."""
    monkeypatch.setenv("TRIALSTREAM_SPOOL_DIR", "/nowhere")
    with shared_folder() as folder:
        ada = in_child(write, folder, uid=ADA)
        out, err, _ = output_of(commands.spool, [folder])
        assert (out, f"skipped {folder}/uid-{ADA}: " in err) == ("no events to send\n", True)
        out, err, _ = output_of(lambda: commands.spool([folder], others=True))

        assert out.startswith(f"{ada}: 1 event, ")
        assert (err, [each.events for each in waiting_spools([folder], others_allowed=True)]) == ("", [1])


@needs_root
def test_files_of_others_in_an_own_spool_are_refused():
    """A file that another user has put into a spool, when its mode allowed that, is not read."""
    with shared_folder() as folder:
        ada = in_child(write, folder, uid=ADA)
        os.chown(ada / "00000001.avro", BOB, BOB)
        (ada / "00000001.avro").chmod(0o644)
        [found] = in_child(_waiting, folder, uid=ADA)

        assert found.trouble == f"{ada}/00000001.avro cannot be read: it belongs to the user {BOB}"


def _waiting(folder):
    return list(waiting_spools([folder]))


@needs_root
@pytest.mark.parametrize("planted", ["link", "folder", "file"])
def test_a_planted_folder_gets_no_events(planted):
    """A file that another user has put in the place of a spool's folder is an error; nothing is written through it."""
    with shared_folder() as folder:
        mine = folder / f"uid-{ADA}"
        target = folder / "target"
        target.mkdir()
        os.chown(target, ADA, ADA)
        if planted == "link":
            mine.symlink_to(target)
        elif planted == "folder":
            mine.mkdir(mode=0o777)
            os.chown(mine, BOB, BOB)
        else:
            mine.write_bytes(b"")
        with pytest.raises(SpoolError, match=r"cannot be written: (uid-12345 belongs to|expected a folder, got a)"):
            in_child(write, folder, uid=ADA)

        assert list(target.iterdir()) == []


def test_links_in_the_place_of_prefix_and_writer(tmp_path):
    """Below `spool_dir`, which may itself be a link, no link is followed, not even one of this user."""
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to("real")
    write(tmp_path / "spool", "one")
    assert [each.name for each in (tmp_path / "real" / "trialstream").iterdir()] == ["one"]
    for link, writer in ((tmp_path / "real" / "trialstream" / "two", "two"), (tmp_path / "real" / "p", "three")):
        link.symlink_to(tmp_path / "elsewhere")
        config = Config(spool_dir=str(tmp_path / "spool"), prefix="trialstream" if writer == "two" else "p")
        spool = Spool(config.spools / writer, config.prefix, writer, 10**9, base=config.spool_folder)
        with pytest.raises(SpoolError, match="cannot be written: expected a folder, got a link"):
            spool.append([EVENT], on_disk=False, segment_bytes=1)

    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["00000001.avro", "refused-00000001.avro", "00000001.partial"])
def test_links_in_the_place_of_files(tmp_path, name):
    """A link in the place of a file that is about to be written is not followed."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    spool = Spool(tmp_path / "p" / "w", "p", "w", 10**9)
    spool.claim()
    (spool.folder / name).symlink_to(target)
    if name == "00000001.avro":
        with pytest.raises(SpoolError, match="cannot be written: File exists"):
            spool.append([EVENT], on_disk=False, segment_bytes=1)
    elif name == "00000001.partial":
        segment = spool.append([EVENT, EVENT], on_disk=False, segment_bytes=1)
        spool.close_segment()
        spool.keep(segment, spool.read(segment)._replace(events=[EVENT]))
    else:
        RefusedEvents(spool).append(EVENT)  # takes the next number
        assert (spool.folder / "refused-00000002.avro").exists()
    spool.unlock()

    assert target.read_bytes() == b"before"


def test_a_folder_that_is_swapped_for_a_link(tmp_path):
    """A spool that is open goes on in its own folder when another one, or a link, takes the place of that."""
    spool = Spool(tmp_path / "p" / "w", "p", "w", 10**9)
    first = spool.append([EVENT], on_disk=False, segment_bytes=1)
    (tmp_path / "elsewhere").mkdir()
    spool.folder.rename(tmp_path / "moved")
    spool.folder.symlink_to(tmp_path / "elsewhere")
    spool.append([EVENT], on_disk=False, segment_bytes=1)
    RefusedEvents(spool).append(EVENT)
    spool.close_segment()
    spool.keep(first, spool.read(first))
    spool.remove(first)
    spool.close()

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(each.name for each in (tmp_path / "moved").iterdir()) == ["00000002.avro", "refused-00000001.avro"]


def test_a_folder_that_is_deleted_is_made_again(tmp_path):
    """A spool whose folder was deleted goes on in a new one."""
    spool = Spool(tmp_path / "p" / "w", "p", "w", 10**9)
    segment = spool.append([EVENT], on_disk=False, segment_bytes=1)
    segment.path.unlink()
    spool.folder.rmdir()
    spool.append([EVENT], on_disk=False, segment_bytes=1)
    spool.close()

    assert [each.name for each in spool.folder.iterdir()] == ["00000002.avro"]


@needs_root
def test_nobody_else_can_hold_the_lock_of_a_spool():
    """A folder is closed to others before it is locked, since a user that can open it can lock it."""
    with shared_folder() as folder:
        ada = in_child(write, folder, uid=ADA)
        for each in (ada, *ada.parents[:2]):
            each.chmod(0o755)
        assert in_child(_is_busy, ada, uid=ADA) is False
        ada.parent.chmod(0o755)

        with pytest.raises(PermissionError):
            in_child(os.open, ada, os.O_RDONLY, uid=BOB)
        held = os.open(ada, os.O_RDONLY)  # by root
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SpoolBusy):
            in_child(_lock, ada, uid=ADA)
        os.close(held)


def _is_busy(folder):
    return Spool(folder, "", "", 0).is_busy()


def _lock(folder):
    Spool(folder, "", "", 0).lock()


def test_a_search_follows_no_links_and_ends(tmp_path):
    """Links to folders are not searched, nor are folders more than 16 levels below the path."""
    write(tmp_path / "real")
    (tmp_path / "searched").mkdir()
    (tmp_path / "searched" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "searched" / "loop").symlink_to(".")
    for depth in (10, 20):
        write(Path(tmp_path, "searched", *["d"] * depth))

    assert search(tmp_path / "searched").spools == [Path(tmp_path, "searched", *["d"] * 10, "trialstream", "w")]


@needs_root
def test_the_memory_reader_leaves_out_spools_of_others(caplog):
    """`connect("spool:PATH")` reads the spools of this user, and names those of others in a warning."""
    with shared_folder() as folder:
        in_child(write, folder, uid=ADA)
        with (
            caplog.at_level(logging.WARNING, "trialstream"),
            pytest.raises(ts.SpoolError, match="a folder that holds a spool of yours"),
            trialstream.sync.connect(f"spool:{folder}", read_only=True),
        ):
            pass

        assert f"skipped {folder}/uid-{ADA}: it belongs to the user {ADA}" in caplog.messages


@needs_root
def test_a_folder_that_cannot_be_written_is_found_at_the_start():
    """`connect` refuses a planted folder before anything is logged."""
    with shared_folder() as folder:
        (folder / f"uid-{ADA}").symlink_to("/tmp")
        with pytest.raises(ConfigError, match=r"spool_dir: expected a folder that can be written: .*got a link"):
            in_child(_open, folder, uid=ADA)


def _open(folder):
    KafkaProtocol(Config(spool_dir=str(folder), offline=True))


def test_the_paths_of_a_configuration(tmp_path):
    """A folder of this user, or one that does not exist yet, holds the spools of a prefix itself."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert Config(spool_dir=str(folder), prefix="p").spools == Path(folder, "p")
