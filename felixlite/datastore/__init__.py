"""Where the documents are: `connect` makes a Store of an address. Nothing is imported that the address does not need."""

import os
from collections.abc import Mapping
from typing import Protocol

from felixlite.datastore.store import Entry, Store
from felixlite.errors import Misconfigured


class Announces(Protocol):
    """A store that has somebody to tell: whether pods can be attached to a node, what is wrong with an object."""

    def announce(self, node: str, *, is_up: bool) -> None: ...

    def warn(self, about: Entry, reason: str, message: str) -> None: ...


def announcer(store: Store) -> Announces | None:
    if not store.address.startswith("kubernetes://"):
        return None
    from felixlite.datastore.kubernetes import KubernetesStore

    return store if isinstance(store, KubernetesStore) else None


def connect(url: str, environ: Mapping[str, str] = os.environ) -> Store:
    """memory://, file:///FOLDER, etcd://host:port[,host:port]?cacert=&cert=&key=&user=&passwordfile=, kubernetes://

    Talks to nobody yet: a server that is away is met by the first request.
    """
    scheme, colon, rest = url.partition("://")
    match scheme if colon else "":
        case "memory":
            from felixlite.datastore.memory import MemoryStore

            return MemoryStore()
        case "file":
            from felixlite.datastore.file import FileStore

            return FileStore.at(rest)
        case "etcd":
            from felixlite.datastore.address import EtcdAddress
            from felixlite.datastore.etcd import EtcdStore

            return EtcdStore(EtcdAddress.parse(url, environ))
        case "kubernetes":
            from felixlite.datastore.kubeconfig import KubernetesAddress
            from felixlite.datastore.kubernetes import KubernetesStore

            return KubernetesStore(KubernetesAddress.parse(url, environ))
    shown = f"{scheme}://..." if colon else url
    raise Misconfigured(f"datastore {shown!r}: must be etcd://host:port, kubernetes://, file:///folder or memory://")
