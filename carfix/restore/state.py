"""The state folder beside an output: finished segments, the journal that lists them, the file in the making."""

import contextlib
import dataclasses
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from carfix.errors import CarfixError
from carfix.interruption import undisturbed, unfinished
from carfix.lock import WINDOWS, lock_file
from carfix.restore.place import fitting
from carfix.video.decode import Damage
from carfix.video.faults import reason
from carfix.video.on_disk import sync, sync_folder
from carfix.video.sink import SegmentFile, check_segment

_JOURNAL = "journal.jsonl"
_LOCK = "lock"
#: How often the folder may be removed, by runs that end, between its making and its locking.
_TRIES = 100


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


def earlier_work(output: Path) -> tuple[Mapping[str, Any], int]:
    """The fingerprint of what an earlier run has left of `output`, and how many frames it finished; empty and 0: none.

    Raises `CarfixError` if its journal cannot be read.
    """
    header, entries = _read_journal(state_folder(output))
    return header or {}, sum(segment.frames for segment in entries.values() if segment is not None)


def discard_state(output: Path) -> None:
    """Remove what is left of work on `output`, unless another process is at it."""
    folder = state_folder(output)
    with contextlib.suppress(OSError):
        lock = lock_file(folder / _LOCK)
        if lock is None:
            return
        with lock:
            held = _removed_but_for_lock(folder, lock)
        if held:
            _remove_emptied(folder)


def _removed_but_for_lock(folder: Path, lock: IO[bytes]) -> bool:
    """Remove a folder whose lock is open here. True: it is there until the lock is closed (NFS, FUSE)."""
    if WINDOWS:
        lock.close()  # no file that is open is removed there
    shutil.rmtree(folder, ignore_errors=True)
    return folder.exists()


def _remove_emptied(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another run has come
        folder.rmdir()


class AtWorkError(CarfixError):
    """Another process works on the same output."""


def _own(take: Callable[[], IO[bytes] | None], output: Path, where: str) -> IO[bytes]:
    """The lock that `take` gives, if no other process has it. Raises as `alone_at` does."""
    try:
        lock = take()
    except OSError as error:
        raise CarfixError(f"cannot write {where}: {reason(error)}") from error
    if lock is None:
        raise AtWorkError(f"another carfix is at work on {output}")
    return lock


@contextlib.contextmanager
def alone_at(part: Path, output: Path) -> Iterator[None]:
    """Only one process is in the block for `part`, under which name `output` grows without a state folder.

    Behind it `part` is not there, as with `unfinished`. Raises `AtWorkError` for a second process, `CarfixError` if
    it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with undisturbed():  # the lock makes the file, and nothing must come before it is to go
            if not WINDOWS:  # where a file that is open cannot get its name
                stack.enter_context(_own(lambda: lock_file(part), output, str(output)))
            stack.enter_context(unfinished(part))
        yield


class State:
    """The folder, locked for this process.

    The journal's first line describes the work as `fingerprint` gives it; each further line is one finished
    segment, with a checksum, written only when its file is complete on the disk. A torn last line, as a power cut
    leaves, and one that was damaged since are work that was not finished.
    """

    def __init__(self, folder: Path, lock: IO[bytes]) -> None:
        self.folder = folder
        self.finished: dict[int, SegmentFile | None] = {}  # None: a segment of which nothing could be decoded
        self._lock = lock
        self._held = False  # by its lock, when all the rest is removed

    def header(self) -> Mapping[str, Any]:
        """The fingerprint of the work that an earlier run left here; empty if there is none."""
        return _read_journal(self.folder)[0] or {}

    def load(self, fingerprint: Mapping[str, Any], *, resume: bool) -> str | None:
        """Take over what an earlier run with the same `fingerprint` finished, or start the journal.

        Returns why an earlier run's work is not used, or None.
        """
        header, entries = _read_journal(self.folder)
        why: str | None = None
        if header is not None:
            if not resume:
                why = "--no-resume was given"
            else:
                why = difference(header, fingerprint)
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
            sync(journal.fileno())

    def has_work(self) -> bool:
        """Whether the journal lists a segment; an earlier run's, too, before or while it is taken over.

        Also if it cannot be read: nobody knows.
        """
        try:
            return bool(_read_journal(self.folder)[1])
        except CarfixError:
            return True

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
            sync(journal.fileno())
        temporary.replace(self.folder / _JOURNAL)
        sync_folder(self.folder)


def _read_journal(folder: Path) -> tuple[dict[str, Any] | None, dict[int, SegmentFile | None]]:
    entries: dict[int, SegmentFile | None] = {}
    try:
        lines = (folder / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        header = json.loads(lines[0])
        if not isinstance(header, dict) or "index" in header:
            return None, {}  # someone removed the file while segments were added
    except (FileNotFoundError, ValueError, IndexError):
        return None, {}
    except OSError as error:  # to begin anew would throw away what it lists
        raise CarfixError(f"cannot read {folder / _JOURNAL}: {reason(error)}") from error
    for line in lines[1:]:
        try:
            fields = json.loads(line)
            if fields.pop("crc32 of line", None) not in (None, _crc32(fields)):
                continue
            index = int(fields.pop("index"))
            entries[index] = _segment(fields) if fields else None
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # torn while it was written, or damaged
    return header, entries


def _segment(fields: Mapping[str, Any]) -> SegmentFile:
    return SegmentFile(**{**fields, "damage": Damage(**fields["damage"])})


def _line(index: int, segment: SegmentFile | None) -> str:
    fields = {"index": index, **({} if segment is None else dataclasses.asdict(segment))}
    return json.dumps({**fields, "crc32 of line": _crc32(fields)}, sort_keys=True) + "\n"


def _crc32(fields: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why work with the fingerprint `old` is of no use for what has `new`; None if it is."""
    # Through JSON and back, as the old one has gone.
    new = json.loads(json.dumps(new))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return f"{', '.join(changed)} changed since" if changed else None


@contextlib.contextmanager
def open_state(output: Path, source: Path | None = None) -> Iterator[State]:
    """The state folder of `output`, created if need be and locked.

    A failure leaves it with what is finished, unless `source`, with which alone that is of use, has been deleted.

    Raises `CarfixError` if it cannot be written, `AtWorkError` if another process works on the same output.
    """
    folder = state_folder(output)
    with _own(lambda: _lock_of(folder), output, f"to {folder}") as lock:
        state = State(folder, lock)
        try:
            yield state
        except BaseException:
            if not state.has_work() or (source is not None and _is_deleted(source)):
                state.discard()  # nothing in it is worth coming back for
            raise
        finally:
            state.close()


def _is_deleted(path: Path) -> bool:
    """Whether `path` is gone from a folder that holds others: an empty one may be of a disk that is not there now."""
    try:
        return not path.exists() and any(path.parent.iterdir())
    except OSError:
        return False


def _lock_of(folder: Path) -> IO[bytes] | None:
    """The lock in `folder`, which is created if need be; None if another process has it. Raises `OSError`."""
    for _ in range(_TRIES):
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a run that ends has removed the folder meanwhile
            return lock_file(folder / _LOCK)
    return None
