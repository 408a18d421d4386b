"""ADD, DEL, CHECK and GC: from a well-formed request to a wired pod, and back. The order of steps is the safety.

ADD: address and WorkloadEndpoint in one transaction; the pair; then the core is told and asked, and only when chains and
route are in the kernel the runtime gets its answer.  What fails undoes what was made; if even that fails a note says
what is owed.  DEL: the store, then the core, then the answer; the kernel takes 20 ms to unregister a veth, so that is
done behind the answer's back, but before anything else happens under the same name.

One lock for each host interface: whatever comes for one pod comes one after the other, different pods do not wait.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from felixlite.addresses import Prefix
from felixlite.cni import pods, result, wiring
from felixlite.cni.core import Core, concerns, unsettled, wait_for
from felixlite.cni.errors import CniError, Code
from felixlite.cni.locks import Locks
from felixlite.cni.names import handle_id, is_interface_name
from felixlite.cni.notes import Notes
from felixlite.cni.plan import NO_UPLINK_MTU
from felixlite.cni.removals import Removals
from felixlite.cni.request import Request
from felixlite.cni.request import parse as parse_request
from felixlite.datastore.store import Document, Entry, Key, Store, Write
from felixlite.errors import Conflict, Denied, FelixliteError, StoreError, Unreachable
from felixlite.ipam import assign as choice
from felixlite.ipam.assign import Assigned
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Workload
from felixlite.model.parse import parse
from felixlite.snapshot import Change, Gone, Put

ADD_PATIENCE: Final = 30.0
DEL_PATIENCE: Final = 5.0
PAUSE: Final = 0.05
LOST: Final = 10  # comparisons lost in a row before we give up


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what came along with it."""

    request: Request
    data: bytes  # as the plugin sent it: what a note keeps
    netns: int | None = None  # the descriptor that the plugin opened for us


class Attachments:
    def __init__(self, store: Store, ipam: Ipam, core: Core, node: str, notes: Notes) -> None:
        self.store, self.ipam, self.core, self.node, self.notes = store, ipam, core, node, notes
        self.locks = Locks()
        self.removals = Removals()

    # -- ADD

    def add(self, asked: Asked) -> dict[str, Any]:
        request = asked.request
        who = pods.whose(request, self.node)
        self._must_be_ready()
        with wiring.pod_namespace(request.netns, asked.netns) as namespace, self.locks.held(who.host_interface):
            self.notes.forget(request)
            self.removals.wait(who.host_interface)
            wanted = self._wanted(request, who)
            assigned, workload = self._assign(request, who, wanted)
            try:
                self._tell(who, assigned.also, Put("local_workloads", _key(workload), workload))
                made = self._wire(request, who, wanted, assigned, namespace)
                self._await(workload, made)
            except BaseException:
                if not assigned.existed:
                    self._undo(asked, who)
                raise
        return result.result(request, made)

    def _must_be_ready(self) -> None:
        code, why = self.core.state()
        if code == Code.NOT_AVAILABLE:
            raise CniError(Code.TRY_AGAIN_LATER, "the felixlite agent is not ready, try again later", why)

    def _wanted(self, request: Request, who: pods.Whose) -> pods.Wants:
        pod = namespace = None
        if who.is_kubernetes and self.core.has_namespace(who.namespace):
            keys = [Key("Pod", who.pod, who.namespace), Key("Namespace", who.namespace)]
            with _store_errors("reading the pod"):
                pod, namespace = (entry.document if entry else None for entry in self.store.read(keys))
        if namespace and not pod:
            raise CniError(Code.UNKNOWN_CONTAINER, f"there is no pod {who.namespace}/{who.pod} any more")
        return pods.wants(request, who, pod, namespace)

    def _assign(self, request: Request, who: pods.Whose, wanted: pods.Wants) -> tuple[Assigned, Workload]:
        attributes = {"node": self.node, "namespace": who.namespace, "pod": who.pod}
        ask = choice.Request(
            request.handle,
            attributes,
            v4=wanted.v4,
            v6=wanted.v6,
            addresses=wanted.addresses,
            pools=wanted.pools,
            namespace_labels=wanted.namespace_labels,
            reuse=True,
        )
        document: Document = {}

        def endpoint(addresses: tuple[Prefix, ...]) -> Sequence[Write]:
            nonlocal document
            document = pods.endpoint_document(who, request, wanted, addresses)
            return [Write(who.endpoint, document, revision)]

        with _store_errors("assigning an address"):
            revision: str | None = None  # mostly there is none: found out by the comparison, not by a read
            for attempt in range(LOST):
                try:
                    assigned = self.ipam.assign(ask, endpoint)
                    return assigned, parse(document).inside()
                except Conflict:
                    if attempt == LOST - 1:
                        raise
                    there = self.store.get(who.endpoint)
                    revision = there.revision if there else None
        raise AssertionError("the last attempt raised")

    def _wire(
        self, request: Request, who: pods.Whose, wanted: pods.Wants, assigned: Assigned, namespace: int
    ) -> result.Attached:
        mtu = int(request.config.get("mtu") or 0) or self.core.mtu() or NO_UPLINK_MTU
        pod = _pod_end(request, wanted.mac, mtu, assigned.addresses)
        link = wiring.attach(
            who.host_interface, namespace, pod, wiring.Elsewhere(self._forget_link, self.removals.wait_for_all)
        )
        return result.Attached(link, wanted.mac, assigned.addresses)

    def _forget_link(self, name: str) -> None:
        """An older pair of ours goes: what stood on it went with it, and the core must know before the new one is there."""
        wait_for(self.core.submit([Gone("links", name)]), DEL_PATIENCE)

    def _tell(self, who: pods.Whose, written: Sequence[Entry | None], change: Change) -> "Future[Any]":
        """The core hears of it at once, and policy is written while we wire. `written` ends with the WorkloadEndpoint."""
        entry = written[-1] if written else None
        return self.core.ahead(who.endpoint, entry.revision if entry else None, lambda: self.core.submit([change]))

    def _await(self, workload: Workload, made: result.Attached) -> None:
        """Until the rows of the workload are in the kernel, or it is clear that they do not get there."""
        deadline = time.monotonic() + ADD_PATIENCE
        changes: list[Change] = [Put("links", made.link.name, made.link)]
        problem = ""
        while True:
            try:
                problem = unsettled(wait_for(self.core.submit(changes), deadline - time.monotonic()), workload)
            except CniError as late:
                raise CniError(late.code, late.message, problem or late.details) from None
            if not problem:
                return
            if time.monotonic() + PAUSE > deadline:
                raise CniError(Code.TRY_AGAIN_LATER, "the pod's rows do not get into the kernel", problem)
            time.sleep(PAUSE)
            changes = []

    def _undo(self, asked: Asked, who: pods.Whose) -> None:
        """Nothing of a failed ADD stays; what cannot be undone now is owed."""
        try:
            self._release(asked.request, who)
            wiring.detach(who.host_interface)
        except (FelixliteError, OSError):
            self.notes.leave(asked.request, asked.data)

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
                is_ours = self._release(request, who)
            except (FelixliteError, OSError):
                self.notes.leave(request, asked.data)
                _detach_inside(asked)
                return
            if is_ours:
                self.notes.leave(request, asked.data)
                self.removals.start(who.host_interface, lambda: self.notes.forget(request))
            else:
                self.notes.forget(request)

    def _release(self, request: Request, who: pods.Whose) -> bool:
        """Addresses and WorkloadEndpoint. False when the name belongs to a younger sandbox: then only the addresses."""
        for attempt in range(LOST):
            entry = self.store.get(who.endpoint)
            is_ours = entry is None or _container(entry) == request.container
            writes = [Write(entry.key, None, entry.revision)] if entry and is_ours else []
            try:
                self.ipam.release_handle(request.handle, writes)
                break
            except Conflict:
                if attempt == LOST - 1:
                    raise
        if is_ours and entry:  # else the core has heard of it, or never knew it
            self._tell_gone(who.endpoint)
        return is_ours

    def _tell_gone(self, endpoint: Key) -> None:
        """The round takes the routes away. If it does not come in time, it comes later: the store knows already."""
        gone: list[Change] = [Gone("local_workloads", (endpoint.namespace, endpoint.name))]
        with suppress(CniError):
            wait_for(self.core.ahead(endpoint, None, lambda: self.core.submit(gone)), DEL_PATIENCE)

    def work_off_notes(self) -> None:
        for path, data in self.notes.owed():
            try:
                request = parse_request(data)
            except CniError:  # nothing that a plugin of ours wrote
                path.unlink(missing_ok=True)
                continue
            self.delete(Asked(request, data), owed=True)

    # -- CHECK

    def check(self, asked: Asked) -> None:
        request = asked.request
        who = pods.whose(request, self.node)
        self._must_be_ready()
        expected = result.addresses_of(request)
        with wiring.pod_namespace(request.netns, asked.netns) as namespace, self.locks.held(who.host_interface):
            with _store_errors("reading the workload endpoint"):
                entry = self.store.get(who.endpoint)
            if entry is None or _container(entry) != request.container:
                raise CniError(Code.NOT_AS_ADDED, f"there is no {who.endpoint} for this container")
            workload = parse(entry.document).inside()
            if missing := [str(a) for a in expected if a not in workload.addresses]:
                raise CniError(Code.NOT_AS_ADDED, f"address {missing[0]} is not assigned to this container")
            pod = _pod_end(request, workload.mac or "", 0, workload.addresses)
            wrong = wiring.first_wrong(who.host_interface, namespace, pod) or self._first_difference(workload)
        if wrong:
            raise CniError(Code.NOT_AS_ADDED, wrong)

    def _first_difference(self, workload: Workload) -> str:
        for table, diff in self.core.differences().items():
            for key, (before, after) in diff.upserts.items():
                if concerns(key, workload):
                    return f"{table}: {key} is {before or 'missing'} and not {after}"
        return ""

    # -- GC

    def collect(self, asked: Asked) -> None:
        """Free exactly the attachments of this network on this node that are not listed as valid; and host ends of ours
        that no endpoint of any network stands behind."""
        request = asked.request
        valid = _valid_attachments(request)
        failed: list[str] = []
        with _store_errors("listing the workload endpoints"):
            entries = self.store.list("WorkloadEndpoint").entries
        for entry in entries:
            spec = entry.document.get("spec") or {}
            attachment = (_container(entry), str(spec.get("endpoint", "")))
            if spec.get("node") == self.node and attachment not in valid:
                failed += self._collect_one(request, entry, *attachment)
        with _store_errors("looking for links that are left over"):
            failed += self._sweep()
        if failed:
            raise CniError(Code.FAILED, f"{len(failed)} attachments could not be freed", "; ".join(failed))

    def _collect_one(self, request: Request, entry: Entry, container: str, interface: str) -> list[str]:
        handle = handle_id(request.network, container, interface)
        link = str((entry.document.get("spec") or {}).get("interfaceName", ""))
        with self.locks.held(link):
            try:
                now = self.store.get(entry.key)
                if now is None or now.revision != entry.revision or not self.ipam.held(handle):
                    return []  # changed meanwhile, or another network's
                self.ipam.release_handle(handle, [Write(now.key, None, now.revision)])
                self._tell_gone(entry.key)
                wiring.detach(link)
            except (FelixliteError, OSError) as error:
                return [f"{entry.key}: {error}"]
        return []

    def _sweep(self) -> list[str]:
        """The endpoint is written before its link is made and removed before it: a link without one is left over.

        Asked again under the lock of the name, so that no ADD under that name is on its way.
        """
        failed = []
        ends = [link.name for link in wiring.host_ends() if is_interface_name(link.name)]
        known = self._host_interfaces()
        for name in (name for name in ends if name not in known):
            with self.locks.held(name):
                self.removals.wait(name)
                try:
                    if name not in self._host_interfaces():
                        wiring.detach(name)
                except (FelixliteError, OSError) as error:
                    failed.append(f"{name}: {error}")
        return failed

    def _host_interfaces(self) -> set[str]:
        """Of all the endpoints of this node."""
        specs = (entry.document.get("spec") or {} for entry in self.store.list("WorkloadEndpoint").entries)
        return {str(spec.get("interfaceName")) for spec in specs if spec.get("node") == self.node}


def _pod_end(request: Request, mac: str, mtu: int, addresses: Sequence[Prefix]) -> wiring.PodEnd:
    settings: Mapping[str, Any] = request.config.get("container_settings") or {}
    forwards = settings.get("allow_ip_forwarding") is True
    return wiring.PodEnd(request.interface, mac, mtu, addresses, result.wants_default_routes(request), forwards)


def _key(workload: Workload) -> tuple[str, str]:
    return workload.namespace, workload.name


def _container(entry: Entry) -> str:
    return str((entry.document.get("spec") or {}).get("containerID", ""))


def _detach_inside(asked: Asked) -> None:
    if not asked.request.netns:
        return
    with suppress(CniError, OSError), wiring.pod_namespace(asked.request.netns, asked.netns) as namespace:
        wiring.detach_inside(namespace, asked.request.interface)


def _valid_attachments(request: Request) -> set[tuple[str, str]]:
    given = request.config.get("cni.dev/valid-attachments")
    if not isinstance(given, list) or not all(isinstance(a, dict) and a.get("containerID") for a in given):
        raise CniError(
            Code.INVALID_CONFIG, "cni.dev/valid-attachments: must be a list of {containerID, ifname}", repr(given)
        )
    return {(str(a["containerID"]), str(a.get("ifname", ""))) for a in given}


@contextmanager
def _store_errors(doing: str) -> Iterator[None]:
    """The store's and IPAM's refusals in the codes of the specification."""
    try:
        yield
    except (Unreachable, Conflict) as error:
        raise CniError(Code.TRY_AGAIN_LATER, f"{doing}: try again later", str(error)) from None
    except choice.Exhausted as error:
        raise CniError(Code.TRY_AGAIN_LATER, f"{doing}: no address is free", str(error)) from None
    except Denied as error:
        raise CniError(Code.IO_FAILURE, f"{doing}: the store refuses", str(error)) from None
    except (choice.NoPool, choice.Taken) as error:
        raise CniError(Code.INVALID_CONFIG, f"{doing} failed", str(error)) from None
    except StoreError as error:
        raise CniError(Code.FAILED, f"{doing} failed", str(error)) from None
