"""A folder of this user alone: nobody else can have written what is read there, nor read what is written there.

The folder is held by its descriptor, and its files are opened by their names in it. So they are those of the folder
that was checked, also if another folder takes its path meanwhile (`trialstream.files`).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from trialstream.files import make_folder, open_file, open_folder

from trialstream_console.local.errors import LocalStackError

__all__ = ["PrivateFolder"]

_OTHERS_WRITE = 0o022
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class PrivateFolder:
    """A folder that belongs to this user and that no other user can write to; a context manager that closes it.

    Attributes:
        path: Path of the folder.
        remedy: What to do about a folder that is refused, for messages.
    """

    def __init__(self, path: Path, remedy: str, descriptor: int) -> None:
        self.path = path
        self.remedy = remedy
        self._descriptor: int | None = descriptor

    @classmethod
    def open(cls, path: Path, remedy: str) -> Self | None:
        """Open a folder; None if there is none.

        Args:
            path: Path of the folder.
            remedy: What to do about a folder that is refused, for messages.

        Raises:
            LocalStackError: It is no folder, is a link, belongs to another user, or other users can write to it.
        """
        try:
            descriptor = open_folder(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = f"it is a link to {path.readlink()}" if path.is_symlink() else error.strerror
            raise LocalStackError(f"folder {path} cannot be used ({reason}): {remedy}") from error
        folder = cls(path, remedy, descriptor)
        try:
            _check(path, os.fstat(descriptor), remedy)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def create(cls, path: Path, remedy: str) -> Self:
        """Open a folder; create it with mode 0700 if it does not exist.

        Args:
            path: Path of the folder.
            remedy: What to do about a folder that is refused, for messages.

        Raises:
            LocalStackError: As for `open`, or the folder could not be created.
        """
        try:
            with suppress(FileExistsError):
                path.mkdir(_FOLDER_MODE, parents=True)
        except OSError as error:
            raise LocalStackError(f"folder {path} cannot be used ({error.strerror}): {remedy}") from error
        folder = cls.open(path, remedy)
        if folder is None:
            raise LocalStackError(f"folder {path} cannot be used (it was removed): {remedy}")
        return folder

    @property
    def descriptor(self) -> int:
        """Descriptor of the folder, which must not be closed."""
        assert self._descriptor is not None
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; does nothing the second time."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hide(self) -> None:
        """Take the rights of other users to list and enter the folder."""
        if stat.S_IMODE(os.fstat(self.descriptor).st_mode) != _FOLDER_MODE:
            os.fchmod(self.descriptor, _FOLDER_MODE)

    def names(self) -> list[str]:
        """Return the names of all files and folders in the folder."""
        return os.listdir(self.descriptor)  # noqa: PTH208 (of a descriptor)

    def open_file(self, name: str, flags: int) -> int:
        """Open a regular file of this user; a new one has mode 0600, whatever the umask.

        Args:
            name: Name of the file.
            flags: Flags of `os.open`; none that empties the file, since it is checked after it is opened.

        Returns:
            The descriptor, which the caller closes.

        Raises:
            FileNotFoundError: There is no such file, and the flags do not create it.
            LocalStackError: It is a link, a FIFO, a device or a folder, has several names, belongs to another user, or
                other users can write to it; or the file could not be opened.
        """
        path = self.path / name
        try:
            descriptor = open_file(name, folder=self.descriptor, flags=flags)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LocalStackError(f"{path} cannot be used ({error.strerror}): {self.remedy}") from error
        try:
            found = os.fstat(descriptor)
            if found.st_nlink > 1:
                raise LocalStackError(
                    f"{path}: expected a file with one name, got one with {found.st_nlink} hard links"
                )
            _check(path, found, self.remedy)
            if stat.S_IMODE(found.st_mode) != _FILE_MODE:
                os.fchmod(descriptor, _FILE_MODE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read(self, name: str, max_bytes: int, *, offset: int = 0) -> bytes | None:
        """Read a file; None if there is none.

        Args:
            name: Name of the file.
            max_bytes: Maximum number of bytes.
            offset: Where to begin, bytes.

        Raises:
            LocalStackError: As for `open_file`, or more bytes follow the offset.
        """
        try:
            descriptor = self.open_file(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            file.seek(offset)
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise LocalStackError(f"{self.path / name}: expected at most {max_bytes} bytes, got more: {self.remedy}")
        return content

    def write(self, name: str, content: str) -> None:
        """Write a file as a whole, under another name first; a link of its name is replaced, not followed.

        Args:
            name: Name of the file.
            content: The text.

        Raises:
            LocalStackError: The file could not be written.
        """
        draft = f".{name}.new"
        try:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self.descriptor)
            with os.fdopen(self.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
                file.write(content)
            os.replace(draft, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except OSError as error:
            raise LocalStackError(f"{self.path / name} cannot be written ({error.strerror}): {self.remedy}") from error

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def create_folder(self, name: str) -> None:
        """Create a folder in this one if there is none, with mode 0700.

        Args:
            name: Name of the folder.

        Raises:
            LocalStackError: It is a link or a file, belongs to another user, or other users can write to it.
        """
        path = self.path / name
        try:
            descriptor = make_folder(name, folder=self.descriptor)
        except OSError as error:
            raise LocalStackError(f"folder {path} cannot be used ({error.strerror}): {self.remedy}") from error
        with PrivateFolder(path, self.remedy, descriptor) as folder:
            _check(path, os.fstat(descriptor), self.remedy)
            folder.hide()

    def has(self, name: str) -> bool:
        """Whether there is a file, a folder or a link of that name, or at that path in the folder."""
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return False
        return True

    def is_file_at(self, name: str, path: str) -> bool:
        """Whether a path is that of a file in the folder, without links."""
        try:
            return os.path.samestat(Path(path).stat(), os.stat(name, dir_fd=self.descriptor, follow_symlinks=False))
        except OSError:
            return False


def _check(path: Path, found: os.stat_result, remedy: str) -> None:
    """Check the owner and the mode of a folder or a file.

    Raises:
        LocalStackError: Another user owns it or can write to it.
    """
    if found.st_uid != os.geteuid():
        raise LocalStackError(
            f"{path}: expected an owner with the uid of this process, {os.geteuid()}, got {found.st_uid}: {remedy}"
        )
    if found.st_mode & _OTHERS_WRITE:
        raise LocalStackError(
            f"{path}: expected a mode with which no other user can write to it, got {stat.S_IMODE(found.st_mode):04o}: "
            f"if you trust what is in it, run `chmod -R go-rwx` on it; otherwise, {remedy}"
        )
