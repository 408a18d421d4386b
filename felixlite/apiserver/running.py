"""A whole server, started and stopped: the store, its feeds, the watches, HTTP. For the command and for tests.

with running(connect(url), Settings(folder)) as server:
    server.url; server.identity.kubeconfig(server.url)
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from felixlite.apiserver import catalogue, core, namespaces
from felixlite.apiserver.api import Api, Judge, Rules, feeds_for, started
from felixlite.apiserver.identity import Identity
from felixlite.apiserver.server import Audit, Server, serving
from felixlite.apiserver.watching import Pump
from felixlite.datastore.documents import born
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Document, Key, Store
from felixlite.errors import AlreadyExists, Misconfigured

LOOPBACK = "127.0.0.1"
FLEETING = frozenset({"Event"})  # there are many, and nobody wants one of yesterday: they do not burden the store


@dataclass(frozen=True, slots=True)
class Settings:
    folder: Path  # certificates, keys, the token
    host: str = LOOPBACK
    port: int = 0  # 0: any that is free
    names: tuple[str, ...] = ()  # further names and addresses by which clients reach it
    read_only: bool = False
    permissive: bool = False
    may: Judge | None = None
    audit: Audit | None = None


@dataclass(slots=True)
class Running:
    server: Server
    api: Api
    identity: Identity
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        host = str(self.server.server_address[0])
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104  where clients on this machine find it
        return f"https://{f'[{host}]' if ':' in host else host}:{self.server.port}"


@contextmanager
def running(store: Store, settings: Settings) -> Iterator[Running]:
    if not store.address.startswith(("etcd://", "memory://")):
        raise Misconfigured(
            f"{store.address}: the API is served of etcd:// or memory://; a folder has no revisions to watch from"
        )
    identity = Identity(settings.folder).made(_hosts(settings))
    known = {one.stored for one in catalogue.everything()}
    feeds = feeds_for(store, MemoryStore(), sorted(known - FLEETING), sorted(FLEETING))
    pump = Pump()
    api = Api(feeds, pump, Rules(settings.read_only, settings.permissive, settings.may))
    server = Server(api, identity, settings.host, settings.port, settings.audit)
    if not settings.read_only:
        _make_namespaces(store)
    threads = started(feeds, pump)
    threads.append(serving(server))
    try:
        yield Running(server, api, identity, threads)
    finally:
        server.shutdown()
        server.server_close()
        pump.stop()
        for feed in feeds:
            feed.stop()
        for thread in threads:
            thread.join(10)


def _hosts(settings: Settings) -> list[str]:
    own = [] if settings.host in ("0.0.0.0", "::") else [settings.host]  # noqa: S104  compared, not bound
    return list(dict.fromkeys((*own, LOOPBACK, "::1", "localhost", *settings.names)))


def _make_namespaces(store: Store) -> None:
    for name in namespaces.BUILT_IN:
        document: Document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        document = core.filled("Namespace", document)
        key = Key("Namespace", name)
        if store.get(key) is None:
            try:
                store.create(key, born(document, str(uuid.uuid4()), datetime.now(UTC)))
            except AlreadyExists:
                continue


def audit_to(path: Path) -> Audit:
    """Lines of JSON at the end of a file."""
    lock = threading.Lock()
    file = path.open("a", buffering=1)

    def note(line: dict[str, object]) -> None:
        with lock:
            file.write(json.dumps(line) + "\n")

    return note


__all__ = ["Running", "Settings", "audit_to", "running"]
