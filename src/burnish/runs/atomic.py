"""Files and folders that are there whole or not at all, whatever kills the process or fills the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from burnish.runs.errors import UserError

TEMPORARY = "tmp-"
"""Prefix of everything unfinished; `sweep` removes it."""

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EFBIG: "raise the file-size limit (ulimit -f) or choose another folder",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replaces the file in one step: temporary file beside it, fsync, rename.

    Raises UserError where the disk says no; the old file then stays.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{path.name}-{os.getpid()}"
    with explained(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


@contextlib.contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, fsynced, when the block ends well and vanishes when it does not.

    An existing `path` is replaced. Raises UserError where the disk is full or not writable.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{path.name}-{os.getpid()}"
    with explained(path):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for parent, _, names in os.walk(temporary):
                for name in names:
                    sync(Path(parent) / name)
                sync(Path(parent))
            if path.exists():
                remove(path)
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync(path.parent)


def remove(path: str | Path) -> None:
    """Removes a folder so that it is never seen half removed: it is renamed first."""
    path = Path(path)
    doomed = path.parent / f"{TEMPORARY}removed-{path.name}-{os.getpid()}"
    shutil.rmtree(doomed, ignore_errors=True)
    with explained(path):
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def refuse_unwritable(path: str | Path, file: bool = False) -> None:
    """Raises UserError where a folder (or, with `file`, a file in a folder that is there) could not be made at `path`; writes nothing."""
    path = Path(path)
    if file and path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")
    if file and not path.absolute().parent.exists():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it or choose another place")
    start = path.absolute().parent if file else path
    nearest = next(one for one in (start, *start.absolute().parents) if one.exists() or one.is_symlink())
    if not nearest.is_dir():
        raise UserError(f"cannot write {path}: {nearest} is a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: {nearest} is not yours to write to; choose a folder you may write to")


def sweep(path: str | Path) -> list[str]:
    """Removes what killed processes left unfinished in a folder; returns the names."""
    found = sorted(entry for entry in Path(path).iterdir() if entry.name.startswith(TEMPORARY)) if Path(path).is_dir() else []
    for entry in found:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return [entry.name for entry in found]


def sync(path: Path) -> None:
    """fsync of a file or folder (folders where the system can)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turns a system error while writing `path` into a UserError with the reason and a remedy.

    Libraries written in Rust (safetensors, tokenizers) wrap the error in types of their own: its number is read from their text.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code is None:
            found = re.search(r"\(os error (\d+)\)", str(error))
            code = int(found.group(1)) if found else None
        if code is None:
            raise
        remedy = _REMEDIES.get(code, "check the folder and its disk")
        raise UserError(f"cannot write {path}: {os.strerror(code)}; {remedy}") from error
