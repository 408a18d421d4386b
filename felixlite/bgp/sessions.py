"""The sessions as the exabgp child tells of them: events -> RIB, session states, and orders back to the child. Pure.

Here it is decided what a lost session means: forget its routes, or keep them because somebody restarts gracefully
(RFC 4724, both roles); when a peer talks too much or comes and goes too often; when we have heard everything after
our own start (InSync), so that the routes of the agent before us may be compared with what we know; and when our own
End-of-RIB is due.  Time comes in as `now`.
Before this: bgp/wire.py's events.  After: Changes for the inbox, orders for bgp/exabgp.py to send.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

from felixlite.addresses import Prefix
from felixlite.bgp.messages import Open
from felixlite.bgp.rib import Rib
from felixlite.bgp.rows import Peer
from felixlite.bgp.update import Decoder, Malformed
from felixlite.bgp.wire import Down, Event, Negotiated, Notified, Opened, Received, State, Trouble, Up
from felixlite.snapshot import Change, Gone, InSync, Many, Put, SessionState

SOURCE = "bgp"
STALE_TIME = 300.0  # how long a peer that is back may take to tell everything again
EARLY_END_TIME = 15.0  # FRR 8.4, when it starts itself, says End-of-RIB 4 s before its first route: wait for silence
UNSEEN_TIME = 15.0  # after our start a peer that does not come up is waited for this long
LONGEST_START = 120.0  # ... and one that does not come to its End-of-RIB this long
QUIET_TIME = 3.0  # a peer that never sends End-of-RIB has told everything when it was quiet for this long
FLAPS, FLAP_WINDOW, LONGEST_HOLD = 3, 60.0, 120.0  # so many losses in so many seconds, and we wait
LEAK_HOLD = 300.0  # how long a peer that exceeded its maximum of prefixes stays shut
CEASE_PREFIXES, UPDATE_ERROR, CEASE = 1, 3, 6


@dataclass(frozen=True, slots=True)
class Order:
    """Something that the child has to do."""

    do: str
    members: Mapping[str, object]


@dataclass(slots=True)
class Session:
    address: str
    row: str  # key of its Peer row: its address, or the range that it came from
    since: float
    state: str = "Idle"
    error: str = ""
    lost: str = ""  # why it was lost; what goes wrong from then on is told after it
    families: tuple[int, ...] = ()
    asn4: bool = True
    open: Open | None = None
    decoder: Decoder | None = None  # there is one as long as the session is up
    ended: bool = False  # a NOTIFICATION told about the end that comes now
    spoken: set[int] = field(default_factory=set)  # families of which a route came
    early: set[int] = field(default_factory=set)  # families whose End-of-RIB came, too early to be believed
    told: set[int] = field(default_factory=set)  # families that it told everything of
    last_update: float = 0.0
    owes_end_of_rib: bool = False
    stale_until: float | None = None
    we_restarted: bool = False  # its routes are stale because of us
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    flaps: int = 0
    updates: int = 0

    @property
    def up(self) -> bool:
        return self.decoder is not None

    def told_everything(self, now: float) -> bool:
        if not self.up:
            return False
        quiet = self.open is not None and self.open.restart is None and now - self.last_update > QUIET_TIME
        return quiet or self.told.issuperset(self.families)

    def view(self) -> SessionState:
        o = self.open
        return SessionState(
            self.state,
            self.since,
            self.error,
            self.families if self.up else (),
            o.asn if o else None,
            o.router_id if o else None,
            self.flaps,
            bool(o and o.extended_next_hop),
        )


class Sessions:
    def __init__(self, rib: Rib | None = None) -> None:
        self.rib = rib or Rib()
        self.rows: dict[str, Peer] = {}
        self.sessions: dict[str, Session] = {}
        self.orders: list[Order] = []
        self.planned_at: float | None = None  # when we knew whom to peer with
        self.announced = False  # everything that we have to say has been said at least once
        self.in_sync = False
        self._news: list[Change] = []
        self._shown: dict[str, SessionState] = {}

    # -- from the core

    def want(self, rows: Mapping[str, Peer], now: float) -> None:
        self.planned(now)
        for key, row in rows.items():
            self.rows[key] = row
            if "/" not in key and key not in self.sessions:
                self.sessions[key] = Session(key, key, now)
            for session in self._of_row(key):
                if session.address in self.rib.sources:
                    self.rib.adjust(session.address, row)
                    self._check_limit(session, now)

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.rows.pop(key, None)
            for session in self._of_row(key):
                self.rib.forget(session.address)
                del self.sessions[session.address]

    def planned(self, now: float) -> None:
        """The other sources are in sync: what is wanted from now on is not a part of it."""
        if self.planned_at is None:
            self.planned_at = now

    def _of_row(self, key: str) -> list[Session]:
        return [s for s in self.sessions.values() if s.row == key]

    # -- from the child

    def heard(self, event: Event, now: float) -> None:
        session = self._session(event.peer, now) if not hasattr(event, "number") else None
        if session is None:
            return
        match event:
            case Received(_, body):
                self._received(session, body, now)
            case State(_, state):
                self._moved(session, state, now)
            case Opened(_, message):
                session.open = message
            case Negotiated(_, families, asn4, _):
                session.families, session.asn4 = families, asn4
            case Up():
                self._up(session, now)
            case Notified(_, words):
                session.error, session.ended = f"received: {words}", True
            case Down(_, reason):
                self._down(session, reason, now)
            case Trouble(_, error):
                self._trouble(session, error)

    def child_gone(self, now: float) -> None:
        """The child died: for the peers we restart. What they told is kept until they tell it again."""
        for session in self.sessions.values():
            if session.up:
                self._keep(session, session.families, now + LONGEST_START, ours=True)
                self._ended(session, "the exabgp process ended; it is started again", now)
            self._moved(session, "Idle", now)

    def _session(self, address: str, now: float) -> Session | None:
        found = self.sessions.get(address)
        if found is None:
            row = self._row_for(address)
            if row is None:
                return None
            found = self.sessions[address] = Session(address, row, now)
        return found

    def _row_for(self, address: str) -> str | None:
        """exabgp names the sessions of a range by their own address; the range itself is no session."""
        if "/" in address:
            return None
        if address in self.rows:
            return address
        host = Prefix.host(ip_address(address))
        ranges = [key for key in self.rows if "/" in key and Prefix.parse(key).covers(host)]
        return max(ranges, key=lambda key: Prefix.parse(key).length, default=None)

    def _moved(self, session: Session, state: str, now: float) -> None:
        if session.state != state:
            session.state, session.since = state, now

    def _up(self, session: Session, now: float) -> None:
        row = self.rows[session.row]
        message = session.open
        internal = row.internal
        if row.peer_as is None and message is not None and message.asn == row.local_as:
            session.error = f"the peer has our own AS {message.asn}, an external one is wanted"
            self._order("teardown", session, code=CEASE, subcode=5)
            return
        session.decoder = Decoder(asn4=session.asn4, internal=internal)
        session.spoken, session.early, session.told = set(), set(), set()
        session.last_update = now
        session.error, session.lost, session.ended = "", "", False
        session.owes_end_of_rib = True
        router_id = message.router_id if message else IPv4Address(0)
        self.rib.open(session.address, row, ip_address(session.address), router_id)
        self._moved(session, "Established", now)
        if session.stale_until is not None:
            self._came_back(session, now)

    def _came_back(self, session: Session, now: float) -> None:
        """RFC 4724 4.2: a restarted peer that did not keep its routes forwarding has its old ones removed at once."""
        restart = session.open.restart if session.open else None
        kept = session.families if session.we_restarted else (restart.forwarding if restart else ())
        for family in (4, 6):
            if family not in kept:
                self.rib.end_of_rib(session.address, family)
        session.stale_until = now + STALE_TIME

    def _down(self, session: Session, reason: str, now: float) -> None:
        self._moved(session, "Idle", now)
        if not session.up:
            self._trouble(session, session.error if session.ended else reason)
            session.ended = False
            return
        restart = session.open.restart if session.open else None
        # RFC 4724 4.2: only the loss of the connection is graceful; who sent a NOTIFICATION wants to be forgotten
        graceful = restart is not None and not session.ended and "sent: " not in reason
        if restart and graceful:
            self._keep(session, restart.families, now + max(restart.seconds, 1), ours=False)
        else:
            self.rib.forget(session.address)
        self._ended(session, session.error if session.ended else reason, now)
        self._damp(session, now)

    def _trouble(self, session: Session, error: str) -> None:
        session.error = f"{session.lost}; since then: {error}" if session.lost else error

    def _keep(self, session: Session, families: Iterable[int], until: float, *, ours: bool) -> None:
        self.rib.retain(session.address, frozenset(families))
        session.stale_until, session.we_restarted = until, ours

    def _ended(self, session: Session, error: str, now: float) -> None:
        session.decoder = None
        session.error = session.lost = error
        session.ended = False
        session.flaps += 1
        session.losses.append(now)

    def _damp(self, session: Session, now: float) -> None:
        recent = sum(1 for at in session.losses if now - at < FLAP_WINDOW)
        if recent >= FLAPS:
            seconds = min(LONGEST_HOLD, 5.0 * 2 ** (recent - FLAPS))
            session.error += f"; lost {recent} times in a minute, held for {seconds:.0f} s"
            self._order("hold", session, seconds=seconds)

    def _received(self, session: Session, body: bytes, now: float) -> None:
        decoder = session.decoder
        if decoder is None:
            return
        session.updates += 1
        session.last_update = now
        rib, key = self.rib, session.address
        try:
            update = decoder.decode(body)
        except Malformed as error:
            self._shut(session, f"sent: UPDATE refused: {error}", now)
            self._order("teardown", session, code=UPDATE_ERROR, subcode=error.subcode)
            self._damp(session, now)
            return
        if update.withdrawn:
            rib.withdraw(key, update.withdrawn)
        for path, prefixes in update.announced:
            rib.announce(key, path, prefixes)
            session.spoken.add(prefixes[0].family)
        if update.fault:
            session.error = f"routes of an UPDATE were treated as withdrawn: {update.fault}"
        if update.end_of_rib is not None:
            self._end_of_rib(session, update.end_of_rib)
        elif update.announced:
            self._check_limit(session, now)

    def _end_of_rib(self, session: Session, family: int) -> None:
        """RFC 4724 4.2: what was not told again is gone. A peer that itself restarts, and told nothing, is not ready."""
        restart = session.open.restart if session.open else None
        if restart and restart.restarting and family not in session.spoken:
            session.early.add(family)
        else:
            self._told_everything(session, {family})

    def _told_everything(self, session: Session, families: set[int]) -> None:
        session.told |= families
        session.early -= families
        if session.stale_until is None:
            return
        for family in families:
            self.rib.end_of_rib(session.address, family)
        if session.told.issuperset(session.families):
            session.stale_until, session.we_restarted = None, False

    def _check_limit(self, session: Session, now: float) -> None:
        if self.rib.over_limit(session.address):
            most = self.rows[session.row].max_prefixes
            words = f"sent: cease: more than {most} prefixes; the session stays shut for {LEAK_HOLD:.0f} s"
            self._shut(session, words, now)
            self._order("hold", session, seconds=LEAK_HOLD, code=CEASE, subcode=CEASE_PREFIXES)

    def _shut(self, session: Session, words: str, now: float) -> None:
        """By us: what it told is forgotten at once, and what it says until it is gone is not heard."""
        self.rib.forget(session.address)
        self._ended(session, words, now)
        session.stale_until, session.ended = None, True

    def _order(self, do: str, session: Session, **members: object) -> None:
        self.orders.append(Order(do, {"peer": session.address, **members}))

    # -- time

    def tick(self, now: float) -> None:
        for session in self.sessions.values():
            if session.early and session.up and now - session.last_update > EARLY_END_TIME:
                self._told_everything(session, set(session.early))
            if session.stale_until is not None and now >= session.stale_until:
                session.stale_until, session.we_restarted = None, False
                if session.up:
                    self.rib.end_of_rib(session.address)
                else:
                    self.rib.forget(session.address)
            if session.up and session.owes_end_of_rib and self.announced:
                session.owes_end_of_rib = False
                self._order("eor", session)
        if not self.in_sync and self._has_heard_all(now):
            self.in_sync = True
            self._news.append(InSync(SOURCE))

    def _has_heard_all(self, now: float) -> bool:
        """After a start: until then no route of the agent before us is removed."""
        if self.planned_at is None:
            return False
        since = now - self.planned_at
        if since >= LONGEST_START:
            return True
        expected = [s for s in self.sessions.values() if s.up or since < UNSEEN_TIME]
        ranges = any("/" in key for key in self.rows)
        if ranges and since < UNSEEN_TIME:
            return False
        return all(s.told_everything(now) for s in expected)

    # -- what is new

    def changes(self) -> list[Change]:
        found, self._news = self._news, []
        news, gone = self.rib.changes()
        before: list[Change] = []
        if news or gone:
            before.append(Many("learned", news, tuple(gone)))
        for address, session in self.sessions.items():
            view = session.view()
            if self._shown.get(address) != view:
                self._shown[address] = view
                before.append(Put("sessions", address, view))
        for address in self._shown.keys() - self.sessions.keys():
            del self._shown[address]
            before.append(Gone("sessions", address))
        return before + found
