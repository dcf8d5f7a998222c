"""Files and folders in places where other users can write: opened by descriptor, checked once they are open."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from trialstream.files import (
    ForeignFile,
    UnexpectedFile,
    create_file,
    make_folder,
    new_file,
    open_file,
    open_folder,
    read_limited,
    tighten,
)


def mode(path):
    """Return the permissions of a path."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def folder(tmp_path):
    """The descriptor of an empty folder."""
    fd = open_folder(tmp_path)
    yield fd
    os.close(fd)


@pytest.fixture(params=["000", "022", "077"])
def umask(request):
    """Each of some masks of new files."""
    old = os.umask(int(request.param, 8))
    yield
    os.umask(old)


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _link(path):
    path.with_name("target").write_bytes(b"data")
    path.symlink_to("target")


def _dangling(path):
    path.symlink_to("nowhere")


def _device(path):
    path.symlink_to("/dev/zero")


def _folder(path):
    path.mkdir()


_OTHERS = [
    pytest.param(_fifo, "a FIFO", id="fifo"),
    pytest.param(_socket, "a socket", id="socket"),
    pytest.param(_link, "a link", id="link"),
    pytest.param(_dangling, "a link", id="dangling link"),
    pytest.param(_device, "a link", id="link to a device"),
]


@pytest.mark.parametrize(("make", "kind"), [*_OTHERS, pytest.param(_folder, "a folder", id="folder")])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_APPEND], ids=["read", "append"])
def test_only_regular_files_are_opened(tmp_path, folder, make, kind, flags):
    """Another thing in the place of a file is named in the error, and neither blocks nor is followed."""
    make(tmp_path / "file")
    for at in ({"folder": folder, "path": "file"}, {"path": tmp_path / "file"}):
        with pytest.raises(UnexpectedFile) as caught:
            open_file(**at, flags=flags)

        assert caught.value.strerror == f"expected a file, got {kind}"


@pytest.mark.parametrize(
    ("make", "kind"), [*_OTHERS, pytest.param(lambda path: path.write_bytes(b""), "a file", id="file")]
)
@pytest.mark.parametrize("opened", [open_folder, make_folder])
def test_only_folders_are_opened_as_folders(tmp_path, folder, make, kind, opened):
    """Another thing in the place of a folder is named in the error."""
    make(tmp_path / "folder")
    with pytest.raises(UnexpectedFile) as caught:
        opened("folder", folder=folder)

    assert caught.value.strerror == f"expected a folder, got {kind}"


def test_paths_of_users_may_be_links(tmp_path):
    """A path that a user gives is followed, but only to a regular file."""
    _link(tmp_path / "link")
    (tmp_path / "zero").symlink_to("/dev/zero")
    fd = open_file(tmp_path / "link", follow=True)

    assert read_limited(fd, 100) == b"data"
    os.close(fd)
    with pytest.raises(UnexpectedFile, match="expected a file, got a device"):
        open_file(tmp_path / "zero", follow=True)


def test_files_of_others(tmp_path, folder):
    """The owner of an open file is compared with the user of the process."""
    (tmp_path / "file").write_bytes(b"data")
    os.close(open_file("file", folder=folder, own=True))
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    os.chown(tmp_path / "file", 12345, 12345)
    with pytest.raises(ForeignFile, match=r"it belongs to the user 12345"):
        open_file("file", folder=folder, own=True)
    os.close(open_file("file", folder=folder))


def test_a_missing_file_stays_that(tmp_path, folder):
    """A missing file, or a part of the path that is a file, is the error of the operating system."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        open_file("nowhere", folder=folder)
    with pytest.raises(NotADirectoryError):
        open_file(tmp_path / "file" / "below")


@pytest.mark.parametrize(("length", "limit", "read"), [(0, 10, 0), (10, 10, 10), (11, 10, 11), (3_000_000, 10, 11)])
def test_reading_ends_beyond_the_limit(tmp_path, length, limit, read):
    """One byte beyond the limit shows that a file is too large; nothing more is read."""
    (tmp_path / "file").write_bytes(bytes(length))
    fd = open_file(tmp_path / "file")

    assert read_limited(fd, limit) == bytes(read)
    os.close(fd)


@pytest.mark.usefixtures("umask")
def test_modes(tmp_path, folder):
    """New files and folders are for their user alone, whatever the umask is."""
    os.close(create_file("file", folder=folder))
    os.close(make_folder("folder", folder=folder))
    with new_file(tmp_path / "whole", ".whole.part") as file:
        file.write(b"data")

    assert [mode(tmp_path / each) for each in ("file", "folder", "whole")] == [0o600, 0o700, 0o600]


def test_wider_folders_are_tightened(tmp_path):
    """A folder of this user loses the rights of others, and the mode before is returned for a message."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide").chmod(0o775)
    fd = make_folder(tmp_path / "wide")

    assert (tighten(fd), mode(tmp_path / "wide"), tighten(fd)) == (0o775, 0o700, None)
    os.close(fd)


@pytest.mark.parametrize("make", [_link, _dangling, _fifo, _folder])
def test_nothing_is_created_through_a_name_in_use(tmp_path, folder, make):
    """A planted link is not followed when a file is created."""
    make(tmp_path / "file")
    with pytest.raises(FileExistsError):
        create_file("file", folder=folder)

    assert not (tmp_path / "nowhere").exists()


def test_a_whole_file_replaces_links(tmp_path):
    """Links under the name of the file, and under its temporary name, are replaced; their targets stay as they are."""
    (tmp_path / "target").write_bytes(b"before")
    (tmp_path / "file").symlink_to("target")
    (tmp_path / "file.part").symlink_to("target")
    with new_file(tmp_path / "file", "file.part") as file:
        file.write(b"after")
        assert (tmp_path / "file").is_symlink()

    assert (tmp_path / "target").read_bytes() == b"before"
    assert (tmp_path / "file").read_bytes() == b"after"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "target"]


def test_a_failure_leaves_nothing(tmp_path):
    """If the block fails, the earlier file stays, and the temporary one is deleted."""
    (tmp_path / "file").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "file", "file.part") as file:
        file.write(b"after")
        raise KeyboardInterrupt

    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]


def test_a_replaced_temporary_file_is_not_renamed(tmp_path):
    """If another process puts its own file under the temporary name, that file gets no other name, and stays."""
    with (
        pytest.raises(OSError, match=r"another process has replaced file\.part"),
        new_file(tmp_path / "file", "file.part"),
    ):
        (tmp_path / "file.part").unlink()
        (tmp_path / "file.part").write_bytes(b"of another")

    assert [(each.name, each.read_bytes()) for each in Path(tmp_path).iterdir()] == [("file.part", b"of another")]
