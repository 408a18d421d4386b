"""exabgp: the child process, the two tables that it stands for, and the source that its peers are.

`Speaker.run` is the body of one thread: it starts the child (bgp/engine/), reads what it says, and starts it again
when it dies; the kernel keeps its routes meanwhile and the tables are announced as touched, so that the core tells the
new child everything again.  The tables are written by the core thread; a lock keeps the two apart.
Nothing is decided here: see bgp/sessions.py (what a session's fate means) and bgp/plan.py (what is wanted).

The child lives in the network namespace of the thread that runs it.  Its configuration holds passwords: the directory
is 0700, the file 0600, and nothing of it is in an argument, a log or an error.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path

from felixlite.addresses import Prefix
from felixlite.backoff import pause
from felixlite.bgp import wire
from felixlite.bgp.child import Child, Silent, Starting
from felixlite.bgp.config_text import configuration
from felixlite.bgp.report import Engine
from felixlite.bgp.rib import Rib
from felixlite.bgp.rows import RIB_ONLY, Announcement, AnnouncementKey, Peer
from felixlite.bgp.sessions import Sessions
from felixlite.errors import FelixliteError
from felixlite.snapshot import Change

TICK = 0.25
QUIET = 0.005  # a burst is over when nothing came for so long,
HOLD_BACK = 0.02  # ... and while it goes on the core is told so often
HEALTHY = 30.0  # a child that lived so long is started again at once


class Refused(FelixliteError):
    """exabgp does not take this row."""


class Speaker:
    """`inbox` takes lists of Changes (Loop.put); `touched` hears the name of a table that the child has lost."""

    def __init__(
        self,
        run_dir: Path,
        inbox: Callable[[Sequence[Change]], None],
        touched: Callable[[str], None] = lambda _table: None,
        *,
        rib: Rib | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.run_dir = run_dir
        self.sessions = Sessions(rib)
        self.peers = Peers(self)
        self.announcements = Announcements(self)
        self.restarts = 0
        self.child: Child | None = None
        self.lock = threading.RLock()
        self._inbox = inbox
        self._touched = touched
        self._clock = clock
        self._stop = threading.Event()
        self._told = True  # everything that was heard has been handed on
        self._told_at = 0.0
        self._heard_first: float | None = None  # of what has not been handed on
        self._handed: float | None = None  # of what has been handed on and is not known to be in the kernel
        self._started = 0.0
        self.lag = 0.0

    @property
    def config(self) -> Path:
        return self.run_dir / "exabgp.conf"

    # -- the thread

    def run(self) -> None:
        """Until `stop`. Raises when there is no way to run a child at all."""
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            self._life()
            failures = 0 if time.monotonic() - began > HEALTHY else failures + 1
            if not self._stop.is_set():
                self.restarts += 1
                self._stop.wait(pause(failures))

    def stop(self) -> None:
        """The peers are not told: their graceful restart bridges the time to the next agent."""
        self._stop.set()

    def _life(self) -> None:
        """One child, from start to end."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write_config({})
        child = Child(self.config)
        try:
            while not self._stop.is_set():
                lines = child.lines(TICK if self._told else QUIET)
                if lines is None:
                    break
                self._hear(child, lines)
        finally:
            self.child = None
            child.end()
            with self.lock:
                self.sessions.child_gone(self._clock())
                self._tell()

    def _hear(self, child: Child, lines: Sequence[bytes]) -> None:
        events = [event for event in map(wire.event, lines) if event is not None]
        with self.lock:
            now = self._clock()
            self._told = self._told and not events
            if events and self._heard_first is None:
                self._heard_first = time.monotonic()
            for event in events:
                if isinstance(event, wire.Answer):
                    self._answered(child, event)
                else:
                    self.sessions.heard(event, now)
            self.sessions.tick(now)
            orders, self.sessions.orders = self.sessions.orders, []
            for order in orders:
                child.order(order.do, **order.members)
            if not lines or now - self._told_at > HOLD_BACK:
                self._told_at = now
                self._tell()

    def _answered(self, child: Child, answer: wire.Answer) -> None:
        """Its first answer is that it runs: whatever an earlier child was told, this one knows nothing of it."""
        if self.child is None:
            self.child, self._started = child, self._clock()
            self._touched(self.peers.name)
            self._touched(self.announcements.name)
        child.answered(answer)

    def _tell(self) -> None:
        self._told = True
        first, self._heard_first = self._heard_first, None
        if changes := self.sessions.changes():
            self._handed = self._handed or first
            self._inbox(changes)

    def engine(self, router_id: str) -> Engine:
        """How the child is, for a report."""
        return Engine(
            self.child is not None, f"exabgp {version('exabgp')}", router_id, self._started, self.peers.loaded
        )

    # -- for the tables, in the core thread

    def running(self) -> Child:
        if self.child is None:
            if not self.restarts:
                raise Starting("the exabgp process is starting")
            raise Silent("the exabgp process is not running; it is started again")
        return self.child

    def write_config(self, rows: Mapping[str, Peer], name: str = "") -> Path:
        path = self.config.with_suffix(name or self.config.suffix)
        temporary = path.with_suffix(".new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(configuration(rows))
        temporary.replace(path)
        return path

    def planned(self) -> None:
        """The agent's other sources are in sync and a round has converged: the peers that we have are all there are."""
        with self.lock:
            self.sessions.planned(self._clock())
            self.sessions.announced = True

    def written(self) -> None:
        """A round that took in what was learned has converged."""
        with self.lock:
            if self._handed is not None:
                self.lag, self._handed = time.monotonic() - self._handed, None

    def want(self, rows: Mapping[str, Peer]) -> None:
        with self.lock:
            self.sessions.want(rows, self._clock())
            self._tell()

    def forgets_announcements(self) -> None:
        """Look again at what the child says to whom."""
        self._touched(self.announcements.name)

    def drop(self, keys: Collection[str]) -> None:
        with self.lock:
            self.sessions.drop(keys)
            self._tell()


class Peers:
    """Table: the sessions that the child is configured for. Key: address or range."""

    name = "bgp peers"
    guard = False

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.rows: dict[str, Peer] = {}  # as they were given to the running child
        self.loaded = 0.0  # when

    def read(self) -> Mapping[str, Peer]:
        there = self.speaker.running().ask("neighbors")["neighbors"]
        self.rows = {key: row for key, row in self.rows.items() if canonical(key) in there}
        return dict(self.rows)

    def upsert(self, items: Mapping[str, Peer]) -> Mapping[str, Exception]:
        errors: dict[str, Exception] = {}
        wanted = {**self.rows, **items}
        try:
            self.speaker.running()
            self.speaker.want(items)  # before the child hears of them: a session may be up before it has answered
            if any(session_part(row) != session_part(self.rows.get(key)) for key, row in items.items()):
                wanted, errors = self._load(wanted, items)
                self.speaker.forgets_announcements()  # a neighbour that is configured anew begins with nothing to say
        except Silent as error:
            return dict.fromkeys(items, error)
        self.rows = wanted
        self._take_back(errors)
        return errors

    def _take_back(self, keys: Collection[str]) -> None:
        """Of what exabgp refused, the row before stays in force."""
        self.speaker.drop([key for key in keys if key not in self.rows])
        if before := {key: self.rows[key] for key in keys if key in self.rows}:
            self.speaker.want(before)

    def delete(self, keys: Collection[str]) -> Mapping[str, Exception]:
        left = {key: row for key, row in self.rows.items() if key not in keys}
        try:
            trouble = self._reload(left)
        except Silent as error:
            return dict.fromkeys(keys, error)
        if trouble:
            return dict.fromkeys(keys, Refused(f"exabgp refuses the peers that stay: {trouble}"))
        self.rows = left
        self.speaker.drop(keys)
        return {}

    def _load(self, wanted: dict[str, Peer], new: Mapping[str, Peer]) -> tuple[dict[str, Peer], dict[str, Exception]]:
        """One reload with everything; when exabgp refuses it, without those rows that it refuses alone."""
        errors: dict[str, Exception] = {}
        if trouble := self._reload(wanted):
            for key, row in new.items():
                if reason := self._verdict({key: row}):
                    errors[key] = Refused(f"peer {key}: exabgp refuses it: {reason}")
                    wanted.pop(key)
                    if key in self.rows:
                        wanted[key] = self.rows[key]
            if not errors or (trouble := self._reload(wanted)):
                return dict(self.rows), dict.fromkeys(new or wanted, Refused(f"exabgp refuses the peers: {trouble}"))
        return wanted, errors

    def _reload(self, rows: Mapping[str, Peer]) -> str:
        path = self.speaker.write_config(rows)
        listen = sorted({str(row.bind) if row.bind else any_address(key) for key, row in rows.items()})
        port = next((row.listen_port for row in rows.values()), 179)
        child = self.speaker.running()
        trouble = str(child.ask("reload", path=str(path), listen=listen, port=port, validate=True)["error"])
        self.loaded = self.loaded if trouble else time.time()
        return trouble

    def _verdict(self, rows: Mapping[str, Peer]) -> str:
        path = self.speaker.write_config(rows, ".candidate")
        return str(self.speaker.running().ask("validate", path=str(path))["error"])


def any_address(key: str) -> str:
    return "::" if ":" in key else "0.0.0.0"  # noqa: S104  Calico's bindMode None


def canonical(key: str) -> str:
    return key if "/" in key else str(ip_address(key))


def session_part(row: Peer | None) -> Peer | None:
    """The row without what only our RIB reads."""
    if row is None:
        return None
    defaults = {name: Peer.__dataclass_fields__[name].default for name in RIB_ONLY}
    return replace(row, **{**defaults, "protects": frozenset()})  # type: ignore[arg-type]  # the fields' own defaults


class Announcements:
    """Table: what the child tells its peers."""

    name = "announcements"
    guard = False

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker

    def read(self) -> Mapping[AnnouncementKey, Announcement]:
        held = self.speaker.running().ask("announced")["announced"]
        return {
            AnnouncementKey(peer, Prefix.parse(prefix)): row
            for peer, groups in held.items()
            for words, prefixes in groups.items()
            for row in [wire.announcement(words)]
            for prefix in prefixes
        }

    def upsert(self, items: Mapping[AnnouncementKey, Announcement]) -> Mapping[AnnouncementKey, Exception]:
        lines: list[bytes] = []
        for peer, row, prefixes in grouped(items):
            lines += wire.announce(peer, row, prefixes)
        errors = self._say(lines, items)
        self.speaker.sessions.announced = True
        return errors

    def delete(self, keys: Collection[AnnouncementKey]) -> Mapping[AnnouncementKey, Exception]:
        lines: list[bytes] = []
        for peer, some in groupby(sorted(keys), key=lambda key: key.peer):
            lines += wire.withdraw(peer, [key.prefix for key in some])
        return self._say(lines, keys)

    def _say(self, lines: Sequence[bytes], keys: Collection[AnnouncementKey]) -> dict[AnnouncementKey, Exception]:
        """Commands are carried out in order; the answer to the last, `sync`, names what was refused."""
        try:
            child = self.speaker.running()
            child.send(lines)
            refused = child.ask("sync")["refused"]
        except Silent as error:
            return dict.fromkeys(keys, error)
        wanted = set(keys)
        return {
            key: Refused(f"{key}: {problem['error']}")
            for problem in refused
            for prefix in problem["prefixes"]
            if (key := AnnouncementKey(problem["peer"], Prefix.parse(prefix))) in wanted
        }


def grouped(
    items: Mapping[AnnouncementKey, Announcement],
) -> Iterator[tuple[str, Announcement, list[Prefix]]]:
    """Prefixes with the same attributes for the same peer go into one command, and into one UPDATE."""
    groups: dict[tuple[str, Announcement], list[Prefix]] = {}
    for key, row in items.items():
        groups.setdefault((key.peer, row), []).append(key.prefix)
    for (peer, row), prefixes in groups.items():
        yield peer, row, prefixes
