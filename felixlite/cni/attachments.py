"""ADD, DEL and CHECK: from a well-formed request to a wired pod, and back. The order of steps is the safety.

ADD: address and WorkloadEndpoint in one transaction, and meanwhile the pair, which needs to know neither; then the core
is told, and only when chains and route are in the kernel the runtime gets its answer.  What fails undoes what was made;
if even that fails a note says what is owed.  DEL: the store, then the core, then the answer; the kernel takes 20 ms to
unregister a veth, so that is done behind the answer's back, but before anything else happens under the same name.
GC is garbage.py's.

One lock for each host interface: whatever comes for one pod comes one after the other, different pods do not wait.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from felixlite.addresses import Prefix
from felixlite.cni import pods, result, wiring
from felixlite.cni.core import Core, concerns, unsettled, wait_for
from felixlite.cni.early import Early
from felixlite.cni.errors import CniError, Code
from felixlite.cni.garbage import Garbage, container_of, handle_of, interface_of
from felixlite.cni.locks import Locks
from felixlite.cni.looking import PodEnd, first_wrong
from felixlite.cni.notes import Notes
from felixlite.cni.plan import NO_UPLINK_MTU
from felixlite.cni.refusals import store_errors
from felixlite.cni.removals import Removals
from felixlite.cni.request import Request
from felixlite.cni.request import parse as parse_request
from felixlite.cni.stages import Stopwatch
from felixlite.datastore.layout import NoPlace
from felixlite.datastore.store import Document, Entry, Key, Store, Write
from felixlite.errors import Conflict, FelixliteError, Rejected
from felixlite.ipam import assign as choice
from felixlite.ipam.assign import Assigned
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Workload
from felixlite.model.parse import parse
from felixlite.snapshot import Change, Gone, LinkState, Put

ADD_PATIENCE: Final = 30.0
DEL_PATIENCE: Final = 5.0
PAUSE: Final = 0.05
LONGEST_TOLD: Final = 300  # characters of a row: chains of policy are longer
LOST: Final = 10  # comparisons lost in a row before we give up

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what came along with it."""

    request: Request
    data: bytes  # as the plugin sent it: what a note keeps
    netns: int | None = None  # the descriptor that the plugin opened for us
    stopwatch: Stopwatch = field(default_factory=Stopwatch)


class Attachments:
    def __init__(self, store: Store, ipam: Ipam, core: Core, node: str, notes: Notes) -> None:
        self.store, self.ipam, self.core, self.node, self.notes = store, ipam, core, node, notes
        self.locks = Locks()
        self.removals = Removals()
        self.garbage = Garbage(store, ipam, node, self.locks, self.removals, self._tell_gone)

    # -- ADD

    def add(self, asked: Asked) -> dict[str, Any]:
        request = asked.request
        who = pods.whose(request, self.node)
        self._must_be_ready()
        with wiring.pod_namespace(request.netns, asked.netns) as namespace, self._alone(who.host_interface):
            self.notes.forget(request)
            self.removals.wait(who.host_interface)
            asked.stopwatch.lap("begin")
            wanted = self._wanted(request, who)
            asked.stopwatch.lap("pod")
            pod = self._pod_end(request, wanted)
            early = Early(who.host_interface, namespace, pod)
            try:
                assigned, workload = self._assign(request, who, wanted, early)
            except BaseException:
                if early.is_there:
                    self.removals.start(who.host_interface, lambda: None)
                raise
            asked.stopwatch.lap("assign")
            try:
                link = early.get(assigned.addresses, wiring.Elsewhere(self._forget_link, self.removals.wait_for_all))
                self.core.made(link)
                asked.stopwatch.lap("wire")
                self._await(workload, self._tell(who, assigned.also, workload, link))
                asked.stopwatch.lap("rows")
                return result.result(request, result.Attached(link, pod.mac, assigned.addresses))
            except BaseException:
                if not assigned.existed:
                    self._undo(asked, who)
                raise

    @contextmanager
    def _alone(self, link: str) -> Iterator[None]:
        """Nobody else is at work under this name, and the core hears of the link from us."""
        with self.locks.held(link), self.core.making(link):
            yield

    def _must_be_ready(self) -> None:
        code, why = self.core.state()
        if code == Code.NOT_AVAILABLE:
            raise CniError(Code.TRY_AGAIN_LATER, "the felixlite agent is not ready, try again later", why)

    def _wanted(self, request: Request, who: pods.Whose) -> pods.Wants:
        pod = namespace = None
        if who.is_kubernetes and self.core.has_namespace(who.namespace):
            keys = [Key("Pod", who.pod, who.namespace), Key("Namespace", who.namespace)]
            with store_errors("reading the pod"):
                pod, namespace = (entry.document if entry else None for entry in self.store.read(keys))
        if namespace and not pod:
            raise CniError(Code.UNKNOWN_CONTAINER, f"there is no pod {who.namespace}/{who.pod} any more")
        most = int(request.config.get("mtu") or 0) or self.core.most_mtu()
        return replace(pods.wants(request, who, pod, namespace), most_mtu=most)

    def _assign(self, request: Request, who: pods.Whose, wanted: pods.Wants, early: Early) -> tuple[Assigned, Workload]:
        attributes = {"node": self.node, "namespace": who.namespace, "pod": who.pod}
        ask = choice.Request(
            request.handle,
            attributes,
            v4=wanted.v4,
            v6=wanted.v6,
            addresses=wanted.addresses,
            pools_of=wanted.pools,
            namespace_labels=wanted.namespace_labels,
            reuse=True,
        )
        workload: Workload | None = None

        def endpoint(addresses: tuple[Prefix, ...]) -> Sequence[Write]:
            nonlocal workload
            document = pods.endpoint_document(who, request, wanted, addresses)
            workload = _workload(document)
            early.plan(addresses)
            return [Write(who.endpoint, document, revision)]

        with store_errors("assigning an address"):
            revision: str | None = None  # mostly there is none: found out by the comparison, not by a read
            for attempt in range(LOST):
                try:
                    assigned = self.ipam.assign(ask, endpoint, early.begin)
                    assert workload is not None  # noqa: S101  nothing is assigned without asking for the endpoint
                    return assigned, workload
                except Conflict:
                    if attempt == LOST - 1:
                        raise
                    there = self.store.get(who.endpoint)
                    revision = there.revision if there else None
        raise AssertionError("the last attempt raised")

    def _pod_end(self, request: Request, wanted: pods.Wants) -> PodEnd:
        """Before it has addresses."""
        mtu = int(request.config.get("mtu") or 0) or self.core.mtu() or NO_UPLINK_MTU
        return _pod_end(request, wanted.mac, mtu, ())

    def _forget_link(self, name: str) -> None:
        """An older pair of ours goes: what stood on it went with it, and the core must know before the new one is there."""
        wait_for(self.core.submit([Gone("links", name)]), DEL_PATIENCE)

    def _tell(
        self, who: pods.Whose, written: Sequence[Entry | None], workload: Workload, link: LinkState
    ) -> "Future[Any]":
        """The core hears of pod and link at once: one round for its chains and its route. `written` ends with the
        WorkloadEndpoint."""
        entry = written[-1] if written else None
        changes: list[Change] = [Put("local_workloads", _key(workload), workload), Put("links", link.name, link)]
        return self.core.ahead(who.endpoint, entry.revision if entry else None, lambda: self.core.submit(changes))

    def _await(self, workload: Workload, told: "Future[Any]") -> None:
        """Until the rows of the workload are in the kernel, or it is clear that they do not get there."""
        deadline = time.monotonic() + ADD_PATIENCE
        problem = ""
        while True:
            try:
                problem = unsettled(wait_for(told, deadline - time.monotonic()), workload)
            except CniError as late:
                raise CniError(late.code, late.message, problem or late.details) from None
            if not problem:
                return
            if time.monotonic() + PAUSE > deadline:
                raise CniError(Code.TRY_AGAIN_LATER, "the pod's rows do not get into the kernel", problem)
            time.sleep(PAUSE)
            told = self.core.submit([])

    def _undo(self, asked: Asked, who: pods.Whose) -> None:
        """Nothing of a failed ADD stays; what cannot be undone now is owed."""
        try:
            self._release(asked.request, who)
            wiring.detach(who.host_interface)
        except (FelixliteError, OSError):
            try:
                self.notes.leave(asked.request, asked.data)
            except OSError as error:  # the runtime hears why the ADD failed, and owes us a DEL
                log.warning("no note of what a failed ADD left can be written: %s", error)

    # -- DEL

    def delete(self, asked: Asked, *, owed: bool = False) -> None:
        """Never an error for what is not there. When the store is away the rest is owed.

        owed: a note said so; an ADD that came meanwhile has taken the note away.
        """
        request = asked.request
        who = pods.whose(request, self.node)
        with self.locks.held(who.host_interface):
            if owed and not self.notes.path(request).exists():
                return
            try:
                link = self._release(request, who)
            except (FelixliteError, OSError) as why:
                try:
                    if not owed:
                        self._owe(asked, why)
                finally:
                    _detach_inside(asked)
                return
            if link:
                self._remove(asked, link, owed=owed)
            else:
                self.notes.forget(request)

    def _remove(self, asked: Asked, link: str, *, owed: bool) -> None:
        """Behind the answer's back, with a note for as long; if none can be left, at once."""
        try:
            if not owed:
                self.notes.leave(asked.request, asked.data)
        except OSError:
            wiring.detach(link)
        else:
            self.removals.start(link, lambda: self.notes.forget(asked.request))

    def _owe(self, asked: Asked, why: Exception) -> None:
        try:
            self.notes.leave(asked.request, asked.data)
        except OSError as error:
            folder = f"{self.notes.folder}: {error.strerror}"
            raise CniError(Code.IO_FAILURE, "neither deleted nor noted for later", f"{why}; {folder}") from None

    def _release(self, request: Request, who: pods.Whose) -> str | None:
        """Addresses and WorkloadEndpoint. Answers the host's end that goes with them; None when the name belongs to a
        younger sandbox: then only the addresses go."""
        for attempt in range(LOST):
            entry = self._known(who.endpoint)
            is_ours = entry is None or container_of(entry) == request.container
            writes = [Write(entry.key, None, entry.revision)] if entry and is_ours else []
            try:
                handle = handle_of(self.ipam, request.network, request.container, request.interface, entry)
                self.ipam.release_handle(handle, writes)
                break
            except Conflict:
                if attempt == LOST - 1:
                    raise
        if is_ours and entry:  # else the core has heard of it, or never knew it
            self._tell_gone(who.endpoint)
        return (interface_of(entry) or who.host_interface) if is_ours else None

    def _known(self, endpoint: Key) -> Entry | None:
        try:
            return self.store.get(endpoint)
        except NoPlace:  # this store never had it
            return None

    def _tell_gone(self, endpoint: Key) -> None:
        """The round takes the routes away. If it does not come in time, it comes later: the store knows already."""
        gone: list[Change] = [Gone("local_workloads", (endpoint.namespace, endpoint.name))]
        with suppress(CniError):
            wait_for(self.core.ahead(endpoint, None, lambda: self.core.submit(gone)), DEL_PATIENCE)

    def work_off_notes(self) -> None:
        """One that cannot be worked off stays, and does not hold up the others."""
        for path, data in self.notes.owed():
            try:
                self._work_off(path, data)
            except (FelixliteError, OSError) as error:
                log.warning("the note %s stays: %s", path, error)
            except Exception:  # one odd note must not take the agent of the whole node down
                log.exception("the note %s stays", path)

    def _work_off(self, path: Path, data: bytes) -> None:
        try:
            request = parse_request(data)
        except CniError:  # nothing that a plugin of ours wrote
            path.unlink(missing_ok=True)
            return
        self.delete(Asked(request, data), owed=True)

    # -- GC

    def collect(self, asked: Asked) -> None:
        self.garbage.collect(asked.request)

    # -- CHECK

    def check(self, asked: Asked) -> None:
        request = asked.request
        who = pods.whose(request, self.node)
        self._must_be_ready()
        expected = result.addresses_of(request)
        with wiring.pod_namespace(request.netns, asked.netns) as namespace, self.locks.held(who.host_interface):
            with store_errors("reading the workload endpoint"):
                entry = self.store.get(who.endpoint)
            if entry is None or container_of(entry) != request.container:
                raise CniError(Code.NOT_AS_ADDED, f"there is no {who.endpoint} for this container")
            workload = parse(entry.document).inside()
            if missing := [str(a) for a in expected if a not in workload.addresses]:
                raise CniError(Code.NOT_AS_ADDED, f"address {missing[0]} is not assigned to this container")
            pod = _pod_end(request, workload.mac or "", 0, workload.addresses)
            wrong = first_wrong(workload.interface, namespace, pod) or self._first_difference(workload)
        if wrong:
            raise CniError(Code.NOT_AS_ADDED, wrong)

    def _first_difference(self, workload: Workload) -> str:
        for table, diff in self.core.differences().items():
            for key, (before, after) in diff.upserts.items():
                if concerns(key, workload):
                    told = f"{table}: {key} is {before or 'missing'} and not {after}"
                    return (
                        told
                        if len(told) < LONGEST_TOLD
                        else f"{table}: {key} is not as it was made; see `felixlite diff`"
                    )
        return ""


def _pod_end(request: Request, mac: str, mtu: int, addresses: Sequence[Prefix]) -> PodEnd:
    settings: Mapping[str, Any] = request.config.get("container_settings") or {}
    forwards = settings.get("allow_ip_forwarding") is True
    return PodEnd(request.interface, mac, mtu, addresses, result.wants_default_routes(request), forwards)


def _workload(document: Document) -> Workload:
    try:
        found: Workload = parse(document).inside()
    except Rejected as error:  # a label, a prefix, a namespace that cannot be stored
        raise CniError(Code.INVALID_CONFIG, "the pod's WorkloadEndpoint would be wrong", str(error)) from None
    return found


def _key(workload: Workload) -> tuple[str, str]:
    return workload.namespace, workload.name


def _detach_inside(asked: Asked) -> None:
    if not asked.request.netns:
        return
    with suppress(CniError, OSError), wiring.pod_namespace(asked.request.netns, asked.netns) as namespace:
        wiring.detach_inside(namespace, asked.request.interface)
