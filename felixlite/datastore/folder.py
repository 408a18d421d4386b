"""The folder behind file.py: where a key's file is, who may write now, and how several files change as one.

    DIR/ippools/default.yaml              DIR/networkpolicies/<namespace>/<name>.yaml
    DIR/.felixlite/lock                   flock: shared to read several files, exclusive to write
    DIR/.felixlite/journal                the writes of a commit that is under way, or that a crash interrupted

A single file changes by a rename.  Several change by way of the journal: once it is there, the commit happened, and whoever
gets the lock next finishes what its writer did not.  Only bytes here; what they mean is file.py's.

A process may die at any moment and nothing is lost.  That the machine does is prepared for as well, at the price of a
wait for the disk (10 ms and more), but for the kinds in FLEETING: what a crash of the machine could lose of these ended
with that crash, for they say which container has which address.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import orjson

from felixlite.datastore.store import Key
from felixlite.errors import Denied, Misconfigured, StoreError, Unreachable
from felixlite.model.kinds import KINDS

OURS = ".felixlite"
SUFFIX = ".yaml"
DEPTH = 2  # of folders: kind, namespace
LOCK_PATIENCE = 5.0  # seconds
FLEETING = frozenset({"IPAMBlock", "IPAMHandle", "BlockAffinity", "WorkloadEndpoint"})

_PLURALS = {kind.stored_plural: kind for kind in KINDS.values()}
_FLEETING = tuple(f"{KINDS[kind].stored_plural}/" for kind in FLEETING)
Writes = Sequence[tuple[str, bytes | None]]  # path in the folder, content; None: remove


class Folder:
    """Not for several threads at once: file.py has the lock for that."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ours = root / OURS
        self._journal = self._ours / "journal"
        try:
            for folder in (root, self._ours):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"file://{root}: {error.strerror}: must be a folder that this user may write") from None
        self._lock: int | None = None

    # -- where things are

    def path_of(self, key: Key) -> str:
        kind = KINDS.get(key.kind)
        if not kind:
            raise StoreError(f"{key.kind} is no kind that this store has a place for")
        if not key.name or bool(key.namespace) != kind.namespaced:
            raise StoreError(f"{key}: needs a name and {'a' if kind.namespaced else 'no'} namespace")
        parts = (key.namespace, key.name) if key.namespace else (key.name,)
        return "/".join((kind.stored_plural, *map(_quoted, parts))) + SUFFIX

    def key_of(self, path: str) -> Key | None:
        """None: nothing of ours, such as an editor's copy."""
        if not path.endswith(SUFFIX):
            return None
        plural, *parts = path.removesuffix(SUFFIX).split("/")
        kind = _PLURALS.get(plural)
        names = [unquote(part) for part in parts]
        if not kind or not all(names) or parts != [_quoted(name) for name in names]:
            return None
        match kind.namespaced, names:
            case False, [name]:
                return Key(kind.name, name)
            case True, [namespace, name]:
                return Key(kind.name, name, namespace)
            case _:
                return None

    def folder_of(self, kind: str, namespace: str) -> str:
        known = KINDS.get(kind)
        if not known:
            raise StoreError(f"{kind} is no kind that this store has a place for")
        return known.stored_plural + (f"/{_quoted(namespace)}" if namespace else "")

    def paths(self, folder: str = "") -> Iterator[str]:
        """Every YAML file below, whether it has a key or not."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(self.root / folder):
                inside = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from self.paths(inside) if inside.count("/") < DEPTH else ()
                elif entry.name.endswith(SUFFIX):
                    yield inside

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise _store_error(error, self.root / path) from None

    # -- one at a time

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Nobody is in the middle of a commit."""
        self._take(fcntl.LOCK_SH)
        try:
            if self._journal.exists():
                self._release()
                self._take(fcntl.LOCK_EX)
                self._finish()
            yield
        finally:
            self._release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        self._take(fcntl.LOCK_EX)
        try:
            self._finish()
            yield
        finally:
            self._release()

    def apply(self, writes: Writes) -> None:
        """All or nothing, also when we die half-way. Needs `exclusive`."""
        try:
            if len(writes) > 1:
                said = [{"path": path, "content": None if data is None else data.decode()} for path, data in writes]
                durable = not all(path.startswith(_FLEETING) for path, _ in writes)
                self._replace(self._journal, orjson.dumps(said), durable=durable)
            self._write(writes)
            if len(writes) > 1:
                self._journal.unlink()
        except OSError as error:
            raise _store_error(error, self.root) from None

    def close(self) -> None:
        self._release()

    # -- how

    def _take(self, how: int) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE
        nap = 0.001
        path = self._ours / "lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise Unreachable(f"file://{self.root} is gone, or no longer mounted") from None
        except OSError as error:
            raise _store_error(error, path) from None
        while True:
            try:
                fcntl.flock(self._lock, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._release()
                    raise Unreachable(f"{path}: another process holds the lock for {LOCK_PATIENCE:g} s") from None
            time.sleep(nap)
            nap = min(0.02, nap * 2)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _finish(self) -> None:
        """What a commit that was interrupted had still to do."""
        try:
            said = orjson.loads(self._journal.read_bytes())
        except FileNotFoundError:
            return
        except orjson.JSONDecodeError:
            said = []  # a crash of the machine, and nothing in it that was worth the wait
        except OSError as error:
            raise _store_error(error, self._journal) from None
        try:
            self._write([(one["path"], one["content"] and one["content"].encode()) for one in said])
            self._journal.unlink()
        except OSError as error:
            raise _store_error(error, self.root) from None

    def _write(self, writes: Writes) -> None:
        for path, data in writes:
            target = self.root / path
            if data is None:
                target.unlink(missing_ok=True)
                continue
            self._make(target.parent)
            self._replace(target, data, durable=not path.startswith(_FLEETING))

    def _make(self, folder: Path) -> None:
        if folder != self.root:
            self._make(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _replace(self, target: Path, data: bytes, *, durable: bool) -> None:
        """By a rename: a reader sees the old content or the new one."""
        fresh = target.with_name(f".{os.getpid()}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123  by descriptor, for its mode
            file.write(data)
            if durable:
                file.flush()
                os.fdatasync(file.fileno())
        fresh.replace(target)


def _quoted(name: str) -> str:
    """As a file's name: no slash, not hidden."""
    text = quote(name, safe="")
    return f"%2E{text[1:]}" if text.startswith(".") else text


def _store_error(error: OSError, path: Path) -> StoreError:
    where = error.filename or path
    if isinstance(error, PermissionError):
        return Denied(f"{where}: {error.strerror}: this user may not; the store's files belong to who runs the agent")
    return StoreError(f"{where}: {error.strerror}")
