"""Version of the code: the commit of the git repository that the script is in, and its uncommitted changes."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

__all__ = ["code_version"]

# Characters of the diff that are logged; the hash is that of the whole.
_MAX_DIFF = 64 * 1024


def code_version() -> dict[str, Any] | None:
    """Return the version of the code, read by dulwich (the extra `capture`).

    Returns:
        `commit`, `branch`, `dirty`, and of a dirty tree `diff` (the first 64 Ki characters) and `diff_sha256` (of the
        whole diff against the commit; files that git does not track are not in it). None if the script is in no
        repository.

    Raises:
        ImportError: Dulwich is not installed.
    """
    from dulwich import porcelain  # noqa: PLC0415 (an extra)
    from dulwich.errors import NotGitRepository  # noqa: PLC0415
    from dulwich.repo import Repo  # noqa: PLC0415

    script = getattr(sys.modules.get("__main__"), "__file__", None)
    start = Path(script).resolve().parent if script else Path.cwd()
    try:
        repo = Repo.discover(str(start))
    except NotGitRepository:
        return None
    with repo:
        try:
            commit = repo.head().decode()
        except KeyError:  # a repository without commits
            return None
        out = io.BytesIO()
        porcelain.diff(repo, commit=repo.head(), outstream=out)
        diff = out.getvalue()
        found: dict[str, Any] = {"commit": commit, "branch": _branch(repo), "dirty": bool(diff)}
        if diff:
            found["diff"] = diff.decode(errors="replace")[:_MAX_DIFF]
            found["diff_sha256"] = hashlib.sha256(diff).hexdigest()
        return found


def _branch(repo: Any) -> str | None:
    names = repo.refs.follow(b"HEAD")[0]
    prefix = b"refs/heads/"
    return next((name[len(prefix) :].decode(errors="replace") for name in names if name.startswith(prefix)), None)
