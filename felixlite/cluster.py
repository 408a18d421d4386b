"""Which cluster this node belongs to: the one that it was first in, whatever store it is pointed at later. IO.

Two clusters' agents at one store would take each other's addresses and delete each other's nodes.  The identity of a
cluster is the GUID of its ClusterInformation; a node notes the first one that it sees in its state directory, and asks
before it reads or writes anything else of a store.  A ClusterInformation that is not there is made anew, with the noted
GUID: so a store that was lost and begun anew takes its nodes back.
"""

import os
import uuid
from pathlib import Path

from felixlite.datastore.store import Document, Key, Store
from felixlite.errors import AlreadyExists, Misconfigured

KEY = Key("ClusterInformation", "default")
FILE = "cluster-guid"
STATE_DIRECTORY = "/var/lib/felixlite"


def join(store: Store, state: Path) -> None:
    """Misconfigured: the store is another cluster's."""
    own = remembered(state)
    found = _guid(store) or _begun(store, own)
    if own and found and found != own:
        raise Misconfigured(
            f"ClusterInformation default: clusterGUID {found!r} of {store.address} is not the {own!r} of the cluster that "
            f"this node is in; point --store at its own cluster or, if the node moves, remove {state / FILE} and start again"
        )
    if found and not own:
        _remember(state, found)


def remembered(state: Path) -> str:
    """ "": this node is in no cluster yet."""
    try:
        return (state / FILE).read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"{state / FILE}: cannot be read ({error}): it says which cluster this node is in; choose another --state-dir"
        ) from None


def _remember(state: Path, guid: str) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = state / f".{FILE}"
        with fresh.open("w") as file:
            file.write(f"{guid}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(state / FILE)
    except OSError as error:
        raise Misconfigured(
            f"{state / FILE}: cannot be written ({error.strerror}); choose another --state-dir"
        ) from None


def _guid(store: Store) -> str:
    entry = store.get(KEY)
    spec = entry.document.get("spec") if entry else None
    return str(spec.get("clusterGUID") or "") if isinstance(spec, dict) else ""


def _begun(store: Store, guid: str) -> str:
    """The identity of a cluster that had none; another node may be faster, which is as good."""
    spec = {"clusterGUID": guid or uuid.uuid4().hex, "clusterType": "felixlite", "datastoreReady": True}
    document: Document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": KEY.kind,
        "metadata": {"name": KEY.name},
        "spec": spec,
    }
    try:
        store.create(KEY, document)
    except AlreadyExists:
        return _guid(store)  # "": somebody else's, without a GUID: nothing to compare
    return str(spec["clusterGUID"])
