"""What a store itself says in a document: its name, its birth, and no revision. Pure: uid and time come in.

A document that comes in stays as it is; what these return shares with it what did not change.
"""

from datetime import datetime

from felixlite.datastore.store import Document, Key, metadata
from felixlite.model.kind import CALICO_VERSION
from felixlite.model.kinds import KINDS


def frame(key: Key) -> Document:
    known = KINDS.get(key.kind)
    where = {"namespace": key.namespace} if key.namespace else {}
    return {
        "apiVersion": known.api_version if known else CALICO_VERSION,
        "kind": known.document_kind if known else key.kind,
        "metadata": {"name": key.name, **where},
    }


def framed(key: Key, value: object) -> Document:
    """A value found at the place of `key`, as a document of that name; what is no document becomes its spec."""
    if not isinstance(value, dict):
        return {**frame(key), "spec": value}
    said = value.get("metadata")
    if isinstance(said, dict) and said.get("name") == key.name and said.get("namespace", "") == key.namespace:
        return value
    return {**value, "metadata": {**(said if isinstance(said, dict) else {}), **frame(key)["metadata"]}}


def kept(document: Document) -> Document:
    """As it is stored: without the revision, which the store knows better."""
    said = metadata(document)
    if "resourceVersion" not in said:
        return document
    return {**document, "metadata": {name: value for name, value in said.items() if name != "resourceVersion"}}


def born(document: Document, uid: str, now: datetime) -> Document:
    """As it is stored at first: with a uid and its time of birth, unless it brings them (a backup, a migration)."""
    said = metadata(document)
    birth = {"uid": uid, "creationTimestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    missing = {name: value for name, value in birth.items() if not said.get(name)}
    return kept({**document, "metadata": {**said, **missing}})
