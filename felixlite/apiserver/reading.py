"""Get and list: one object from the store itself, many from what is kept at hand, in pages of one moment."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from felixlite.apiserver import forms, selection, status
from felixlite.apiserver.cache import Cache, Feed
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.requests import Request, Target
from felixlite.apiserver.status import Refused
from felixlite.datastore.layout import NoPlace, keeps_metadata
from felixlite.datastore.store import Document, Entry, in_order

PAGES_KEPT, PAGES_FOR = 64, 300.0  # lists that somebody is in the middle of, seconds


class Page(NamedTuple):
    entries: Sequence[Entry]
    revision: str
    token: str = ""
    left: int = 0


@dataclass(frozen=True, slots=True)
class _Rest:
    entries: tuple[Entry, ...]
    revision: str
    until: float


class Pages:
    """What is left of lists that are read in pages."""

    def __init__(self) -> None:
        self._rests: OrderedDict[str, _Rest] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, entries: tuple[Entry, ...], revision: str, limit: int) -> Page:
        return self._cut(_Rest(entries, revision, time.monotonic() + PAGES_FOR), limit)

    def next(self, token: str, limit: int) -> Page:
        with self._lock:
            rest = self._rests.get(token)
        if rest is None or rest.until < time.monotonic():
            raise status.expired("the continue parameter is too old: list again from the beginning")
        return self._cut(rest, limit)

    def _cut(self, rest: _Rest, limit: int) -> Page:
        page, later = rest.entries[:limit] if limit else rest.entries, rest.entries[limit:] if limit else ()
        if not later:
            return Page(page, rest.revision)
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._rests[token] = _Rest(later, rest.revision, rest.until)
            while len(self._rests) > PAGES_KEPT:
                self._rests.popitem(last=False)
        return Page(page, rest.revision, token, len(later))


def stored(feed: Feed, target: Target) -> Entry | None:
    """The object as the store has it at this moment."""
    served = target.served
    key = forms.key(served, target.namespace, {"metadata": {"name": target.name}})
    try:
        found = feed.store.get(key)
    except NoPlace:  # a name that no object of the kind can have in this store
        found = None
    if found is not None and forms.wire_name(served, found) == target.name:
        return found
    if not forms.has_other_names(served):
        return found
    cache = feed.filled(served.stored)
    with feed.news:
        named = [entry for entry in cache.entries.values() if forms.wire_name(served, entry) == target.name]
    return feed.store.get(named[0].key) if named else None


def as_kept(feed: Feed, written: Entry) -> Entry:
    """What was written as it will be read: a store of etcd's layout keeps no metadata of IPAM's objects."""
    if keeps_metadata(written.key.kind):
        return written
    return feed.store.get(written.key) or written


def selected(
    served: Served, entries: Iterable[Entry], namespace: str, matches: selection.Matches | None
) -> list[Entry]:
    return [
        entry
        for entry in entries
        if (not namespace or entry.key.namespace == namespace)
        and (matches is None or matches(forms.shown(served, entry)))
    ]


def listed(feed: Feed, pages: Pages, target: Target, request: Request) -> Page:
    limit = max(request.number("limit"), 0)
    if token := request.query.get("continue", ""):
        return pages.next(token, limit)
    matches = selection.selection(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
    cache = ready(feed, target.served)
    with feed.news:
        _recent_enough(cache, request)
        entries, revision = list(cache.entries.values()), cache.revision
    found = in_order(selected(target.served, entries, target.namespace, matches))
    return pages.first(found, revision, limit)


def revision_asked(request: Request) -> str:
    """ "": none in particular."""
    asked = request.query.get("resourceVersion", "")
    if asked and not asked.isdecimal():
        raise Refused(400, f"resourceVersion={asked}: is no resource version of this server")
    return asked


def ready(feed: Feed, served: Served) -> Cache:
    cache = feed.filled(served.stored)
    if not cache.is_filled:
        raise Refused(429, f"storage is (re)initializing: {feed.error or served.plural}", retry_after=1)
    return cache


def _recent_enough(cache: Cache, request: Request) -> None:
    asked, match = revision_asked(request), request.query.get("resourceVersionMatch", "")
    if match == "Exact" and asked != cache.revision:
        raise status.expired(f"the list at resource version {asked} is no longer known ({cache.revision})")


def as_list(served: Served, page: Page) -> Document:
    return {
        "apiVersion": served.api_version,
        "kind": f"{served.kind}List",
        "metadata": page_metadata(page),
        "items": [forms.shown(served, entry) for entry in page.entries],
    }


def page_metadata(page: Page) -> Document:
    more = {"continue": page.token, "remainingItemCount": page.left} if page.token else {}
    return {"resourceVersion": page.revision, **more}
