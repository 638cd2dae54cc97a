"""Files and folders that are there whole or not at all, whatever ends the writing: an error, a full disk, a kill, a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from scelbo.errors import ScelboError, StorageError

OLD = "old"
"""What a workshop calls the folder that is being replaced."""
LARGEST_OF_ITS_OWN = 2**20
"""Bytes that HDF5 writes at once of what it needs to find its way in a file, at most; what is larger are values."""
HINTS = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "Free some space there, or name a place that has more.",
    (errno.EACCES, errno.EPERM, errno.EROFS): "Name a place that you may write to.",
}
"""What to do about the errors of the system that are met most."""


@contextlib.contextmanager
def whole(place: str | Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which takes its ``place`` once the block has ended well.

    What is unfinished is removed: after an error at once, after a kill by the next that writes to the same place.

    Raises
    ------
    StorageError
        It cannot be written. What was at the place is as it was, and nothing is left beside it.
    """
    named, place = place, Path(place).absolute()
    with _explained(named), _workshop(place) as workshop:
        new = workshop / place.name
        yield new
        _onto_the_disk(new)
        _put(new, place, workshop / OLD)
        _onto_the_disk(place.parent, inside=False)


def require_writable(place: str | Path) -> None:
    """Raise unless something can be written there now: before long work whose result it is to hold."""
    named, place = place, Path(place).absolute()
    with _explained(named), _workshop(place) as workshop:
        (workshop / place.name).write_text("room for a few words", encoding="utf-8")
        _onto_the_disk(workshop)


class ForHDF5(io.FileIO):
    """A file to be written by HDF5, ``h5py.File(ForHDF5(place, "w+"), "w")``, which is not told what goes wrong: it would end the process.

    What did is raised by :meth:`require_written`, and when the file is closed. Until then HDF5 reads back what it wrote, but for values.
    """

    def __init__(self, place: str | Path, mode: str):
        super().__init__(place, mode)
        self.error: OSError | None = None
        self.unwritten: dict[int, bytes] = {}

    def require_written(self) -> None:
        if self.error:
            raise self.error

    def write(self, data: Any) -> int:
        left, at = memoryview(data).cast("B"), self.tell()
        size = len(left)
        try:
            self.require_written()
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
            if size <= LARGEST_OF_ITS_OWN:
                self.unwritten.pop(at, None)
                self.unwritten[at] = bytes(data)
        return size

    def readinto(self, buffer: Any) -> int:
        view, at = memoryview(buffer).cast("B"), self.tell()
        read = super().readinto(view) or 0
        view[read:] = bytes(len(view) - read)
        for start, held in self.unwritten.items():
            first, last = max(at, start), min(at + len(view), start + len(held))
            if first < last:
                view[first - at : last - at] = held[first - start : last - start]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.require_written()


@contextlib.contextmanager
def _explained(place: str | Path) -> Iterator[None]:
    """Whatever the system, HDF5 or safetensors say of it, as an error that says what to do."""
    try:
        yield
    except ScelboError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        number = getattr(error, "errno", None) or int((re.findall(r"(?:os error|errno =|Errno) (\d+)", str(error)) or [0])[-1])
        if isinstance(error, RuntimeError) and not number:
            raise  # of the work: memory ran out, say
        hint = next((hint for numbers, hint in HINTS.items() if number in numbers), "Name another place.")
        reason = os.strerror(number) if number else str(error) or type(error).__name__
        raise StorageError(f"{str(place)!r} cannot be written: {reason}. What was there is as it was.", hint) from error


@contextlib.contextmanager
def _workshop(place: Path) -> Iterator[Path]:
    """An empty folder beside the place, claimed while this process lives; those that nobody claims any more are cleared away."""
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name}.unfinished-"
    for left in place.parent.glob(f"{glob.escape(prefix)}*"):
        with _claim(left) as free:
            if free:
                _restore(left / OLD, place)
                shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as claims:
        while True:
            workshop = Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))
            if claims.enter_context(_claim(workshop)) is not False and workshop.exists():
                break  # else another process, which began at the same moment, has taken it for one that nobody claims
        try:
            yield workshop
        finally:
            _restore(workshop / OLD, place)
            shutil.rmtree(workshop, ignore_errors=True)


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[bool | None]:
    """Whether this process could lock the folder; None where there are no locks. One ends with its process, however that ends."""
    try:
        import fcntl

        file = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows; or it has just gone
        yield None
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine: bool | None = True
    except BlockingIOError:
        mine = False
    except OSError:  # some network drives
        mine = None
    try:
        yield mine
    finally:
        os.close(file)


def _put(new: Path, place: Path, old: Path) -> None:
    """One step, also where a folder is replaced; two only where the system cannot exchange folders (all but Linux)."""
    if not (place.is_dir() and not place.is_symlink()):
        os.replace(new, place)
    elif not _exchanged(new, place):
        place.replace(old)
        new.replace(place)


def _restore(old: Path, place: Path) -> None:
    """Put back what was moved aside, if the writing ended between the two steps."""
    if old.exists() and not place.exists():
        old.replace(place)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places at once; False where that cannot be."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(one), here, os.fsencode(other), both) == 0


def _onto_the_disk(path: Path, inside: bool = True) -> None:
    """Wait until the system has written it: else a power cut could leave the new name with nothing behind it."""
    if sys.platform == "win32":
        return
    for part in [*(path.rglob("*") if inside else ()), path]:
        file = os.open(part, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


__all__ = ["ForHDF5", "require_writable", "whole"]
