"""The agent of one node: the one place that knows every class.

    options -> store -> this node's record -> sources and tables -> the loop, until told to stop

Nothing is decided here.  What a node wants is in plan.py, what it writes back to the store is a duty, what people ask it
is answered by answers.py.  Starting is cheap and safe at any moment, because every table reads reality first.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from felixlite import __version__, carriers, cluster, config, logs, ways
from felixlite.answers import DOCUMENTS, Answers
from felixlite.bgp.exabgp import Speaker
from felixlite.bgp.tell import peers
from felixlite.cni.attachments import Attachments
from felixlite.cni.core import Core
from felixlite.cni.notes import Notes
from felixlite.cni.podmtus import PodMtus
from felixlite.cni.server import Server
from felixlite.config import Settings
from felixlite.control import Control, bound
from felixlite.controllers.runner import Event
from felixlite.controllers.team import Team
from felixlite.datastore import connect, source
from felixlite.datastore.source import Source
from felixlite.datastore.store import Store
from felixlite.duties import Duties, Duty
from felixlite.errors import Misconfigured, StoreError
from felixlite.figures import Totals, of_bgp, of_reads, samples
from felixlite.health import Sample, Served, Wanted, metrics_text
from felixlite.heartbeat import Heartbeat, Pace
from felixlite.intake import Intake
from felixlite.ipam.metrics import Timings, of_node
from felixlite.ipam.reading import StoreView, blocks_of_node
from felixlite.ipam.store import Ipam
from felixlite.ipam.tunnels import Tunnels
from felixlite.ipam.view import SnapshotView
from felixlite.kernel import events
from felixlite.kernel.addresses import Addresses
from felixlite.kernel.events import Events
from felixlite.kernel.expected import Expected
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links
from felixlite.kernel.neighbours import ForwardingEntries, Neighbours
from felixlite.kernel.routes import Routes
from felixlite.kernel.rules import Rules
from felixlite.kernel.sysctls import Sysctls
from felixlite.loop import Loop, Round
from felixlite.membership import Membership
from felixlite.nodeduties import NodeDuties
from felixlite.nodereports import NodeReports, about
from felixlite.plan import NodePlanner, Surroundings
from felixlite.policy import flowtable
from felixlite.policy.backend import PolicyTable
from felixlite.policy.watch import LegacyEvents, NftablesEvents
from felixlite.precedence import Precedence
from felixlite.publication import Publication
from felixlite.readiness import Readiness
from felixlite.reconcile import Reconciler
from felixlite.registration import FirstPool
from felixlite.roundlog import RoundLog
from felixlite.snapshot import Change, Snapshot
from felixlite.tables import Table, merged
from felixlite.threads import Threads

log = logging.getLogger("felixlite")

SWITCH_INTERVAL = 0.0001  # seconds: a thread that wires a pod must not wait 5 ms whenever another one computes


@dataclass(frozen=True, slots=True)
class Options:
    store: str
    node_name: str = ""
    run_directory: Path = Path("/run/felixlite")
    state_directory: Path = Path(cluster.STATE_DIRECTORY)
    flags: Mapping[str, Any] = field(default_factory=dict)  # FelixConfiguration fields, above all other places
    first_pool: FirstPool = field(default_factory=FirstPool)
    controllers: bool = False  # also what has to be done once for the whole cluster (one agent does it at a time)


def _tell_event(event: Event) -> None:
    log.log(logging.WARNING if event.failed else logging.INFO, "%s", event)


def run(options: Options) -> int:
    """Run until SIGTERM or SIGINT, or until a thread dies. Answers the exit code."""
    _need_root()
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_INTERVAL)
    options.run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    agent = Agent(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.threads.stopping.set())
    agent.start()
    agent.threads.stopping.wait()
    agent.stop()
    return 1 if agent.threads.died else 0


def _need_root() -> None:
    if os.geteuid() != 0:
        raise Misconfigured(
            "the agent writes routes, links and policy: run it as root (or with CAP_NET_ADMIN and CAP_NET_RAW)"
        )


class Agent:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.here = options.node_name or socket.gethostname().lower()
        self.log = logs.begin(self.here)
        self.totals, self.began = Totals(), time.monotonic()
        self.threads = Threads()
        self.store: Store = connect(options.store)
        has_ipv6 = Path("/proc/sys/net/ipv6").exists()
        self.host = Host()
        given = config.effective(options.flags, os.environ, {}, self.here)
        self.ipip = carriers.chosen(self.host, given["ipipCarrier"])
        self.planner = NodePlanner(
            Surroundings(
                options.flags,
                dict(os.environ),
                self.ipip.carrier,
                ipv6=has_ipv6,
                fast_path_fault=cache(flowtable.fault),
            )
        )
        self.membership = Membership(
            self.store, self.here, self.planner.settings, options.state_directory, options.first_pool
        )
        by_store = StoreView(self.store, self.here, time.time)
        self.timings = Timings()
        self.precedence = Precedence()
        give_way = self.precedence.give_way
        view = SnapshotView(lambda: self.loop.snapshot, source.NAME, by_store)
        self.ipam = Ipam(self.store, self.here, view, observe=self.timings, epoch=lambda: self.source.epoch)
        self.speaker = Speaker(options.run_directory / "bgp", self._put, self._touched)
        self.expected = Expected(self._put)
        self.links, self.routes = Links(self.host, as_made=self.expected.as_made), Routes(self.host)
        self.reconciler = Reconciler(self._tables())
        self.loop = Loop(
            Snapshot(self.here), self.planner, self.reconciler, needs=(source.NAME, events.SOURCE), report=self._report
        )
        self.source = Source(
            self.store,
            tuple(DOCUMENTS),
            Intake(self.here, DOCUMENTS),
            self.loop.put,
            first=self.membership.join,
            give_way=give_way,
        )
        self.policy_events = NftablesEvents(self.loop.touched, give_way)
        policy_tables = [table for table in self.reconciler.tables if isinstance(table, PolicyTable)]
        self.legacy_events = LegacyEvents(self.loop.touched, policy_tables)
        self.events = Events(
            self.host,
            self.loop.put,
            self.loop.touched,
            self.routes.owns,
            self.links.adopts,
            give_way=give_way,
            expected=self.expected,
        )
        self.publication = Publication(
            self.store,
            self.here,
            lambda: self.planner.published,
            lambda: self.reconciler.mirrors[self.routes.name].settled,
        )
        self.readiness = Readiness(self.loop)
        self.duties = Duties(
            NodeDuties(
                self.store, self.here, self.loop, self.planner, Tunnels(self.ipam, self.store, self.here),
                self.membership, self.publication,
            ).all()
        )  # fmt: skip
        self.examinations = Duties([Duty("examination of ways", lambda known: (known.asked,), self._examine)])
        self.health = Served("health", {"/liveness": self.readiness.liveness, "/readiness": self.readiness.readiness})
        self.metrics = Served("metrics", {"/metrics": lambda: (200, metrics_text(self._samples()))})
        self.reports = NodeReports(
            self.store,
            lambda: self.loop.snapshot.status_requests,
            lambda: about(self.loop, self.speaker, self.routes.owns_some),
        )
        self.heartbeat = Heartbeat(self.store, self.here, self._pace, lambda: self.readiness.liveness()[0] == 200)
        self.answers = self._answers()
        self.control = Control(options.run_directory / "agent.sock", self.answers.by_word())
        self.cni = self._cni()
        self.controllers = Team(self.store, self.here, _tell_event) if options.controllers else None
        self.settings: Settings | None = None
        self.round_log = RoundLog()

    # -- what it is made of

    def _tables(self) -> list[Table[Any, Any]]:
        """In the order in which they converge (ARCHITECTURE.md)."""
        host = self.host
        return [
            PolicyTable(4),
            PolicyTable(6),
            self.links,
            PodMtus(host, self.expected.as_made),
            Addresses(host),
            Sysctls(host),
            Neighbours(host),
            ForwardingEntries(host),
            *carriers.tables(host, self.ipip.carrier, self._touched),
            self.routes,
            Rules(host),
            flowtable.FlowTable(),
            self.speaker.peers,
            self.speaker.announcements,
        ]

    def _put(self, changes: Sequence[Change]) -> None:
        self.loop.put(changes)

    def _touched(self, table: str) -> None:
        self.loop.touched(table)

    def _cni(self) -> Server:
        core = Core(
            submit=self.loop.submit,
            state=self.readiness.of_cni,
            mtu=lambda: self.planner.mtus.pod if self.planner.mtus else None,
            making=self.expected.making,
            made=self.expected.made,
            most_mtu=lambda: self.planner.mtus.uplink if self.planner.mtus else None,
            differences=lambda: self.loop.ask(lambda loop: loop.reconciler.differences(loop.planned.tables)),
            has_namespace=lambda name: f"kns.{name}" in self.loop.snapshot.profiles,
            ahead=self.source.ahead,
            precedence=self.precedence,
        )
        attachments = Attachments(self.store, self.ipam, core, self.here, Notes(self.options.run_directory))
        return Server(bound(self.options.run_directory / "cni.sock"), attachments)

    def _answers(self) -> Answers:
        return Answers(
            self.loop,
            self.planner,
            self.speaker,
            self.store,
            self.source,
            self.duties,
            (self.health, self.metrics, self.heartbeat, self.reports),
            self.ipip,
        )

    # -- its life

    def start(self) -> None:
        for name, target in self.cni.threads():  # first: the runtime is told what the agent still waits for
            self.threads.start(name, target)
        self.membership.begin(self.host, self.threads.stopping)
        self.threads.start("control", self.control.run)
        self.threads.start("events", self.events.run)
        self.threads.start("policy events", self.policy_events.run)
        self.threads.start("legacy iptables", self.legacy_events.run)
        self.threads.start("source", self.source.run)
        self.threads.start("bgp", self.speaker.run)
        self.threads.start("duties", self.duties.run)
        self.threads.start("heartbeat", self.heartbeat.run)
        self.threads.start("examinations", self.examinations.run)
        self.threads.start("node reports", self.reports.run)
        self.threads.start("core", self.loop.run)
        if self.controllers:
            self.threads.start("controllers", self.controllers.run)
        log.info(
            "felixlite %s: node %s, store %s, ipip: %s", __version__, self.here, self.store.address, self.ipip.carrier
        )
        if self.ipip.warning:
            log.warning("%s", self.ipip.warning)

    def _examine(self, known: Snapshot) -> None:
        """In a thread of its own: where packets vanish it takes its time."""
        if word := known.asked.get(self.here):
            try:
                ways.answer(self.store, self.here, word, [n for name, n in known.nodes.items() if name != self.here])
            except OSError as error:
                raise Misconfigured(f"the ways to other nodes cannot be examined: {error}") from None

    def stop(self) -> None:
        """What is in force stays in force: the node of a stopped agent goes on forwarding."""
        self.cni.stop()
        if self.controllers:
            self.controllers.stop(patience=2.0)
        self.loop.stop()
        self.duties.stop()
        self.heartbeat.stop()
        self.examinations.stop()
        self.reports.stop()
        self.source.stop()
        self.events.stop()
        self.policy_events.stop()
        self.legacy_events.stop()
        self.speaker.stop()
        self.control.close()
        self.store.close()

    # -- what is told about it

    def _report(self, told: Round, known: Snapshot) -> None:
        """After each round, in the core thread: one line if something was done, and on with the duties."""
        self.totals.count(told)
        if self.loop.settled and self.totals.first_settled is None:
            self.totals.first_settled = time.monotonic() - self.began
        if self.loop.in_sync:
            self.publication.hear(told, known)
        self.duties.see(known)
        self.examinations.see(known)
        peers = self.reconciler.mirrors[self.speaker.peers.name]
        if self.loop.in_sync and peers.wanted is not None and not peers.unreadable:
            self.speaker.planned()  # these are all the peers there are to wait for
        self.round_log.hear(told, known.sessions)
        if "learned" in told.cause:
            self.speaker.written()
        self._follow_settings(known)
        code, why = self.readiness.of_cni()
        self.heartbeat.hear(why if code else "")

    def _follow_settings(self, known: Snapshot) -> None:
        """What is configured about the process itself; nothing of it needs a restart."""
        settings = self.planner.settings(known)
        if settings is self.settings:
            return
        self.settings = settings
        self.log.follow(settings["logFormat"], settings["logSeverityScreen"])
        self.health.follow(_where(settings, "health", "healthEnabled"))
        self.metrics.follow(_where(settings, "prometheusMetrics", "prometheusMetricsEnabled"))
        self.loop.resync_every = settings["routeRefreshInterval"] or float("inf")

    def _pace(self) -> Pace:
        settings = self.settings or self.planner.settings(self.loop.snapshot)
        return Pace(settings["reportingInterval"], settings["reportingTTL"])

    def _samples(self) -> Iterator[Sample]:
        """Of the whole cluster's addresses only whoever collects tells; of its own ones every node."""
        yield from samples(self.loop, self.totals, self.source.health.lists, self.log.errors)
        told = merged(self.loop.planned.tables.get(self.speaker.announcements.name, ({},)))
        with self.speaker.lock:
            sessions = peers(self.speaker.sessions, told)
        yield from of_bgp(sessions, len(self.loop.snapshot.learned), self.speaker.lag)
        yield from of_reads(self.routes.reads, self.routes.read_seconds)
        yield from self.answers.samples()
        yield from self.timings.samples()
        yield from self.cni.stages.samples()
        yield from carriers.samples(self.reconciler.tables)
        if self.controllers and self.controllers.leads:
            yield from self.controllers.samples()
            return
        with suppress(StoreError):  # it is away: that is told as a source that is not in sync
            yield from of_node(self.loop.snapshot, blocks_of_node(self.store, self.here))


def _where(settings: Settings, name: str, enabled: str) -> Wanted | None:
    return Wanted(settings[f"{name}Host"], settings[f"{name}Port"]) if settings[enabled] else None
