"""Namespaces hold what is in them: nothing is created in one that is not there, and one that is deleted takes all along.

Endpoints of running pods (WorkloadEndpoint) are no content: they go when their pod does.
"""

from collections.abc import Callable, Iterator

from felixlite import heartbeat
from felixlite.apiserver import catalogue, forms, status
from felixlite.apiserver.cache import Feed
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.requests import Target
from felixlite.apiserver.status import Refused
from felixlite.datastore.store import Entry, Key

BUILT_IN = ("default", "kube-system", heartbeat.NAMESPACE)
NO_CONTENT = ("WorkloadEndpoint",)
FeedOf = Callable[[str], Feed]


def served() -> Served:
    return next(one for one in catalogue.of_stored("Namespace"))


def require(feed_of: FeedOf, name: str) -> None:
    """Refused: nothing can be created in it."""
    found = _find(feed_of, name)
    if found is None and name not in BUILT_IN:
        raise status.not_found(served(), name)
    if found is not None and _is_terminating(found):
        raise Refused(403, f"namespace {name} is being terminated: nothing new can be created in it")


def may_go(name: str) -> None:
    if name in BUILT_IN:
        raise Refused(
            403,
            f'namespaces "{name}" is forbidden: this namespace may not be deleted',
            details=status.about(served(), name),
        )


def content(feed_of: FeedOf, name: str) -> Iterator[Target]:
    """Everything in it, each once."""
    for kind in sorted({one.stored for one in catalogue.everything() if one.namespaced} - set(NO_CONTENT)):
        resource, feed = catalogue.of_stored(kind)[-1], feed_of(kind)
        cache = feed.filled(kind)
        with feed.news:
            inside = [entry for entry in cache.entries.values() if entry.key.namespace == name]
        for entry in inside:
            yield Target(resource, name, forms.wire_name(resource, entry))


def finished(feed_of: FeedOf, name: str) -> Entry | None:
    """The namespace, if it was only waiting for the last thing in it to go."""
    found = _find(feed_of, name)
    if found is None or not _is_terminating(found) or next(content(feed_of, name), None):
        return None
    return found


def terminating(document: dict[str, object]) -> dict[str, object]:
    return {**document, "status": {"phase": "Terminating"}}


def _find(feed_of: FeedOf, name: str) -> Entry | None:
    return feed_of("Namespace").store.get(Key("Namespace", name))


def _is_terminating(entry: Entry) -> bool:
    return bool((entry.document.get("metadata") or {}).get("deletionTimestamp"))
