"""GC: what a runtime no longer knows of is freed, and nothing else.

Freed are the attachments of the request's network on this node that it does not list as valid; and host ends of ours
that no endpoint of any network stands behind.  One that cannot be freed does not hold up the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from felixlite.cni import wiring
from felixlite.cni.errors import CniError, Code
from felixlite.cni.locks import Locks
from felixlite.cni.looking import host_ends
from felixlite.cni.names import handle_id, is_interface_name
from felixlite.cni.refusals import store_errors
from felixlite.cni.removals import Removals
from felixlite.cni.request import Request
from felixlite.datastore.store import Entry, Key, Store, Write
from felixlite.errors import FelixliteError
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
        """Free exactly the attachments of this network on this node that are not listed as valid; and host ends of ours
        that no endpoint of any network stands behind."""
        valid = _valid_attachments(request)
        failed: list[str] = []
        with store_errors("listing the workload endpoints"):
            entries = self.store.list("WorkloadEndpoint").entries
        for entry in entries:
            spec = entry.document.get("spec") or {}
            attachment = (container_of(entry), str(spec.get("endpoint", "")))
            if spec.get("node") == self.node and attachment not in valid:
                failed += self._collect_one(request, entry, *attachment)
        with store_errors("looking for links that are left over"):
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
                self.tell_gone(entry.key)
                wiring.detach(link)
            except (FelixliteError, OSError) as error:
                return [f"{entry.key}: {error}"]
        return []

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


def _valid_attachments(request: Request) -> set[tuple[str, str]]:
    given = request.config.get("cni.dev/valid-attachments")
    if not isinstance(given, list) or not all(isinstance(a, dict) and a.get("containerID") for a in given):
        raise CniError(
            Code.INVALID_CONFIG, "cni.dev/valid-attachments: must be a list of {containerID, ifname}", repr(given)
        )
    return {(str(a["containerID"]), str(a.get("ifname", ""))) for a in given}
