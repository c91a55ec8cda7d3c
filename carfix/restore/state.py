"""The state folder beside an output: finished segments, the journal that lists them, the file in the making."""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from carfix.errors import CarfixError
from carfix.interruption import undisturbed, unfinished
from carfix.restore.place import fitting
from carfix.video.decode import Damage
from carfix.video.faults import reason
from carfix.video.sink import SegmentFile, check_segment

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_WINDOWS = sys.platform == "win32"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"


def state_folder(output: Path) -> Path:
    """Where the work on `output` is kept until it is finished."""
    return fitting(f".{output.name}.carfix", output)


def kept_size(output: Path) -> int:
    """Bytes that earlier work on `output` takes: it goes on in them, or throws them away."""
    size = 0
    with contextlib.suppress(OSError):  # there is none, or another run finishes it at this moment
        for path in state_folder(output).iterdir():
            size += path.stat().st_size
    return size


def discard_state(output: Path) -> None:
    """Remove what is left of work on `output`, unless another process is at it."""
    folder = state_folder(output)
    with contextlib.suppress(OSError):
        with (folder / _LOCK).open("ab") as lock:
            held = _locked(lock) and _removed_but_for_lock(folder, lock)
        if held:
            _remove_emptied(folder)


def _removed_but_for_lock(folder: Path, lock: IO[bytes]) -> bool:
    """Remove a folder whose lock is open here. True: it is there until the lock is closed (NFS, FUSE)."""
    if _WINDOWS:
        lock.close()  # no file that is open is removed there
    shutil.rmtree(folder, ignore_errors=True)
    return folder.exists()


def _remove_emptied(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another run has come
        folder.rmdir()


def _locked(lock: IO[bytes]) -> bool:
    """Whether this process has the lock now; True as well where there are none (some network folders)."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


class AtWorkError(CarfixError):
    """Another process works on the same output."""


@contextlib.contextmanager
def alone_at(part: Path, output: Path) -> Iterator[None]:
    """Only one process is in the block for `part`, under which name `output` grows without a state folder.

    Behind it `part` is not there, as with `unfinished`. Raises `AtWorkError` for a second process, `CarfixError` if
    it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with undisturbed():  # the lock makes the file, and nothing must come before it is to go
            if not _WINDOWS:  # where a file that is open cannot get its name
                try:
                    lock = stack.enter_context(part.open("ab"))
                except OSError as error:
                    raise CarfixError(f"cannot write {output}: {reason(error)}") from error
                if not _locked(lock):
                    raise AtWorkError(f"another carfix is at work on {output}")
            stack.enter_context(unfinished(part))
        yield


class State:
    """The folder, locked for this process.

    The journal's first line describes the work as `fingerprint` gives it; each further line is one finished
    segment, written only when its file is complete on the disk. A torn last line, as a power cut leaves, is
    work that was not finished.
    """

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self.folder = folder
        self.finished: dict[int, SegmentFile | None] = {}  # None: a segment of which nothing could be decoded
        self._lock = lock
        self._held = False  # by its lock, when all the rest is removed

    def header(self) -> Mapping[str, Any]:
        """The fingerprint of the work that an earlier run left here; empty if there is none."""
        return self._read_journal()[0] or {}

    def load(self, fingerprint: Mapping[str, Any], *, resume: bool) -> str | None:
        """Take over what an earlier run with the same `fingerprint` finished, or start the journal.

        Returns why an earlier run's work is not used, or None.
        """
        header, entries = self._read_journal()
        why: str | None = None
        if header is not None:
            if not resume:
                why = "--no-resume was given"
            else:
                why = _difference(header, fingerprint)
        if header is None or why is not None:
            self._begin(fingerprint)
            return why
        for index, segment in entries.items():
            if segment is not None:
                try:
                    check_segment(self.folder, segment)
                except CarfixError:
                    continue  # it is restored again
            self.finished[index] = segment
        self._rewrite(header)
        return None

    def add(self, index: int, segment: SegmentFile | None) -> None:
        """Journal a finished segment; on return it is on the disk."""
        self.finished[index] = segment
        with (self.folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(_line(index, segment))
            journal.flush()
            os.fsync(journal.fileno())

    def has_work(self) -> bool:
        """Whether the journal lists a segment; an earlier run's, too, before or while it is taken over."""
        return bool(self._read_journal()[1])

    def discard(self) -> None:
        """Remove the folder and all that is in it."""
        self._held = _removed_but_for_lock(self.folder, self._lock)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()
        if self._held:
            _remove_emptied(self.folder)

    def _begin(self, fingerprint: Mapping[str, Any]) -> None:
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()
        self._rewrite(dict(fingerprint))

    def _rewrite(self, header: Mapping[str, Any]) -> None:
        temporary = self.folder / f"{_JOURNAL}.part"
        with temporary.open("w", encoding="utf-8") as journal:
            journal.write(json.dumps(header, sort_keys=True) + "\n")
            journal.writelines(_line(index, self.finished[index]) for index in sorted(self.finished))
            journal.flush()
            os.fsync(journal.fileno())
        temporary.replace(self.folder / _JOURNAL)
        sync_folder(self.folder)

    def _read_journal(self) -> tuple[dict[str, Any] | None, dict[int, SegmentFile | None]]:
        entries: dict[int, SegmentFile | None] = {}
        try:
            lines = (self.folder / _JOURNAL).read_text(encoding="utf-8").splitlines()
            header = json.loads(lines[0])
            if not isinstance(header, dict) or "index" in header:
                return None, {}  # someone removed the file while segments were added
        except (OSError, ValueError, IndexError):
            return None, {}
        for line in lines[1:]:
            try:
                fields = json.loads(line)
                index = int(fields.pop("index"))
                entries[index] = _segment(fields) if fields else None
            except (ValueError, TypeError, KeyError, AttributeError):
                break  # torn while it was written
        return header, entries


def _segment(fields: Mapping[str, Any]) -> SegmentFile:
    return SegmentFile(**{**fields, "damage": Damage(**fields["damage"])})


def _line(index: int, segment: SegmentFile | None) -> str:
    fields = {} if segment is None else dataclasses.asdict(segment)
    return json.dumps({"index": index, **fields}, sort_keys=True) + "\n"


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    # Through JSON and back, as the old one has gone.
    new = json.loads(json.dumps(new))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return f"{', '.join(changed)} changed since" if changed else None


@contextlib.contextmanager
def open_state(output: Path) -> Iterator[State]:
    """The state folder of `output`, created if need be and locked.

    Raises `CarfixError` if it cannot be written, `AtWorkError` if another process works on the same output.
    """
    folder = state_folder(output)
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / _LOCK).open("ab")
    except OSError as error:
        raise CarfixError(f"cannot write to {folder}: {reason(error)}") from error
    with lock:
        if not _locked(lock):
            raise AtWorkError(f"another carfix is at work on {output}")
        state = State(folder, lock)
        try:
            yield state
        except BaseException:
            if not state.has_work():
                state.discard()  # nothing in it is worth coming back for
            raise
        finally:
            state.close()


def sync_folder(folder: Path) -> None:
    """Force names that were created or renamed in `folder` to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
