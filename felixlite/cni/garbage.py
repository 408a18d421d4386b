"""GC: what a runtime no longer knows of is freed, and nothing else.

Freed are the attachments of the request's network on this node that it does not list as valid, also those whose endpoint
is a younger container's by now; and host ends of ours that no endpoint of any network stands behind.  One that cannot be
freed does not hold up the others.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from felixlite.cni import wiring
from felixlite.cni.errors import CniError, Code
from felixlite.cni.locks import Locks
from felixlite.cni.looking import host_ends
from felixlite.cni.names import FIRST_INTERFACE, handle_id, interface_name, is_interface_name, older_handle_id
from felixlite.cni.refusals import store_errors
from felixlite.cni.removals import Removals
from felixlite.cni.request import Request
from felixlite.datastore.store import Entry, Key, Store, Write
from felixlite.errors import FelixliteError
from felixlite.ipam.blocks import secondary
from felixlite.ipam.facts import Standing, by_handle
from felixlite.ipam.repair import read_facts
from felixlite.ipam.store import Ipam


@dataclass(frozen=True, slots=True)
class Garbage:
    store: Store
    ipam: Ipam
    node: str
    locks: Locks
    removals: Removals
    tell_gone: Callable[[Key], None]  # the core hears that an endpoint is deleted

    def collect(self, request: Request) -> None:
        valid = _valid_attachments(request)
        failed: list[str] = []
        with store_errors("listing the workload endpoints"):
            entries = self.store.list("WorkloadEndpoint").entries
        for entry in entries:
            spec = entry.document.get("spec") or {}
            attachment = (container_of(entry), str(spec.get("endpoint", "")))
            if spec.get("node") == self.node and attachment not in valid:
                failed += self._collect_one(request, entry, *attachment)
        with store_errors("looking for addresses that are left over"):
            failed += self._free_forgotten(request.network, valid)
        with store_errors("looking for links that are left over"):
            failed += self._sweep()
        if failed:
            raise CniError(Code.FAILED, f"{len(failed)} attachments could not be freed", "; ".join(failed))

    def _collect_one(self, request: Request, entry: Entry, container: str, interface: str) -> list[str]:
        link = interface_of(entry)
        with self.locks.held(link):
            try:
                handle = handle_of(self.ipam, request.network, container, interface, entry)
                now = self.store.get(entry.key)
                if now is None or now.revision != entry.revision or not self.ipam.held(handle):
                    return []  # changed meanwhile, or another network's
                self.ipam.release_handle(handle, [Write(now.key, None, now.revision)])
                self.tell_gone(entry.key)
                wiring.detach(link)
            except (FelixliteError, OSError) as error:
                return [f"{entry.key}: {error}"]
        return []

    def _free_forgotten(self, network: str, valid: Collection[tuple[str, str]]) -> list[str]:
        """Of a pod that was made anew while its older container was not deleted: no endpoint leads there any more."""
        failed = []
        for handle, name in self._forgotten(network, valid).items():
            with self.locks.held(name):
                try:
                    if handle in self._forgotten(network, valid):  # and no ADD has just written its endpoint
                        self.ipam.release_handle(handle)
                except (FelixliteError, OSError) as error:
                    failed.append(f"{handle}: {error}")
        return failed

    def _forgotten(self, network: str, valid: Collection[tuple[str, str]]) -> dict[str, str]:
        """Handles of this network on this node that are neither valid nor any endpoint's, with the host's end that their
        pod has, or had."""
        kept = {name(network, *attachment) for attachment in valid for name in (handle_id, older_handle_id)}
        found = {}
        for handle, allocations in by_handle(read_facts(self.store)).items():
            if not handle.startswith(f"{network}.") or handle in kept:
                continue
            about = [secondary(ledger.attribute(ordinal) or {}) for ledger, ordinal, _ in allocations]
            lives = any(standing not in (Standing.SUSPECT, Standing.NODE_GONE) for *_, standing in allocations)
            if not lives and {a.get("node") for a in about} == {self.node}:
                interface = handle.removeprefix(f"{network}.").partition(".")[2] or FIRST_INTERFACE
                found[handle] = interface_name(about[0].get("namespace", ""), about[0].get("pod", ""), interface)
        return found

    def _sweep(self) -> list[str]:
        """An endpoint is removed before its link: a link without one is left over, unless an ADD is just about to write
        the endpoint. So it is asked again under the lock of the name, which an ADD holds from before it makes the link."""
        failed = []
        ends = [link.name for link in host_ends() if is_interface_name(link.name)]
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


def container_of(entry: Entry) -> str:
    return str((entry.document.get("spec") or {}).get("containerID", ""))


def interface_of(entry: Entry | None) -> str:
    """The host's end, as it was called when it was made."""
    return str(((entry.document if entry else {}).get("spec") or {}).get("interfaceName") or "")


def handle_of(ipam: Ipam, network: str, container: str, interface: str, entry: Entry | None) -> str:
    """What its addresses are held by: an older version's handle, if what that holds are the addresses of its endpoint."""
    handle, older = handle_id(network, container, interface), older_handle_id(network, container, interface)
    if handle == older or not entry or container_of(entry) != container:
        return handle
    networks = (entry.document.get("spec") or {}).get("ipNetworks") or ()
    held = ipam.held(older)
    return older if held and {str(address) for address in held} <= {*map(str, networks)} else handle


def _valid_attachments(request: Request) -> set[tuple[str, str]]:
    """`null` is what Go makes of a list without elements: a node without pods."""
    key = "cni.dev/valid-attachments"
    given = request.config.get(key, "nothing")
    if given is None:
        return set()
    if not isinstance(given, list) or not all(map(_is_attachment, given)):
        raise CniError(Code.INVALID_CONFIG, f"{key}: must be a list of {{containerID, ifname}}", repr(given))
    return {(item["containerID"], item["ifname"]) for item in given}


def _is_attachment(item: object) -> bool:
    names = (item.get("containerID"), item.get("ifname")) if isinstance(item, dict) else ("",)
    return all(isinstance(name, str) and name for name in names)
