"""From a request to its answer: who may, which resource, which verb, in which form. Knows no socket.

What an answer is made of is elsewhere: reading.py, writing.py, watching.py, tables.py, discovery.py, openapi.py.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from felixlite.apiserver import forms, reading, reviews, selection, status
from felixlite.apiserver.answers import Answer, Stream, as_table, encoded, wants_table, warnings, watch_encoding
from felixlite.apiserver.bodies import body, delete_options, is_dry_deletion, patching
from felixlite.apiserver.cache import Feed, Gone
from felixlite.apiserver.pages import page
from felixlite.apiserver.requests import Request, Target, User, target
from felixlite.apiserver.status import Refused
from felixlite.apiserver.watching import Pump, View, Watcher, chunk, frame
from felixlite.apiserver.writing import Done, Options, Writer
from felixlite.datastore.store import Entry, Store, in_order
from felixlite.errors import Rejected, StoreError

LONGEST_WATCH = 3600
READS = ("get", "list", "watch")
Judge = Callable[[User, Target, str], str]  # why a user may not; "": may


@dataclass(frozen=True, slots=True)
class Rules:
    read_only: bool = False
    permissive: bool = False
    may: Judge | None = None


@dataclass(slots=True)
class Api:
    feeds: Sequence[Feed]
    pump: Pump
    rules: Rules = Rules()
    pages: reading.Pages = field(default_factory=reading.Pages)
    _feed_of: dict[str, Feed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for feed in self.feeds:
            feed.wake = self.pump.wake
            self._feed_of |= dict.fromkeys(feed.caches, feed)

    def feed_of(self, kind: str) -> Feed:
        return self._feed_of[kind]

    def answer(self, request: Request) -> Answer | Stream:
        """Refused is an answer as well."""
        try:
            return self._answer(request)
        except Refused as refused:
            after = (("Retry-After", str(refused.retry_after)),) if refused.retry_after else ()
            return Answer(refused.code, encoded(request, refused.document()), headers=after)

    def _answer(self, request: Request) -> Answer | Stream:
        _as_oneself(request)
        wanted = target(request.path)
        if wanted is None:
            return self._page(request)
        verb = wanted.verb(request.method, watch=request.says("watch"))
        self._may(request, wanted, verb)
        if wanted.subresource not in ("", *(["status"] if wanted.served.has_status else [])):
            raise Refused(404, "the server could not find the requested resource")
        try:
            return self._verb(request, wanted, verb)
        except (StoreError, Rejected) as error:
            raise status.of_error(error, wanted.served, wanted.name or _name_in(request)) from None

    def _why_not(self, user: User, wanted: Target, verb: str) -> str:
        why = self.rules.may(user, wanted, verb) if self.rules.may else ""
        return why or ("this server is read-only" if self.rules.read_only and verb not in READS else "")

    def _may(self, request: Request, wanted: Target, verb: str) -> None:
        if why := self._why_not(request.user, wanted, verb):
            name = f' "{wanted.name}"' if wanted.name else ""
            message = (
                f'{wanted.served.title}{name} is forbidden: User "{request.user.name}" cannot {verb} resource: {why}'
            )
            raise Refused(403, message, details=status.about(wanted.served, wanted.name))

    def _verb(self, request: Request, wanted: Target, verb: str) -> Answer | Stream:
        match verb:
            case "get":
                return self._get(request, wanted)
            case "list":
                return self._list(request, wanted)
            case "watch":
                return self._watch(request, wanted)
            case "create":
                return self._wrote(
                    request, wanted, self._writer(request, is_dry=request.is_dry).create(wanted, body(request))
                )
            case "update":
                return self._wrote(
                    request,
                    wanted,
                    self._writer(request, is_dry=request.is_dry).change(wanted, lambda _: body(request)),
                )
            case "patch":
                how = patching(request, wanted)
                return self._wrote(request, wanted, self._writer(request, is_dry=request.is_dry).change(wanted, how))
            case "delete":
                return self._delete(request, wanted)
            case _:
                return self._delete_all(request, wanted)

    # -- reads

    def _get(self, request: Request, wanted: Target) -> Answer:
        entry = reading.stored(self.feed_of(wanted.served.stored), wanted)
        if entry is None:
            raise status.not_found(wanted.served, wanted.name)
        return Answer(200, self._shown(request, wanted, [entry], entry.revision))

    def _list(self, request: Request, wanted: Target) -> Answer:
        page = reading.listed(self.feed_of(wanted.served.stored), self.pages, wanted, request)
        if wants_table(request):
            objects = (forms.shown(wanted.served, entry) for entry in page.entries)
            return Answer(200, encoded(request, as_table(request, wanted.served, objects, reading.page_metadata(page))))
        return Answer(200, encoded(request, reading.as_list(wanted.served, page)))

    def _watch(self, request: Request, wanted: Target) -> Stream:
        feed, cache = (
            self.feed_of(wanted.served.stored),
            reading.ready(self.feed_of(wanted.served.stored), wanted.served),
        )
        asked, bookmarks = reading.revision_asked(request), request.says("allowWatchBookmarks")
        view = _view(request, wanted)
        with feed.news:
            everything = _wants_everything(request)
            try:
                place = cache.end if everything or not asked else cache.place(asked)
            except Gone:
                error = status.expired(f"too old resource version: {asked} ({cache.revision})").document()
                return Stream(
                    Watcher(feed, cache, view, cache.end, 0.0, bookmarks=False, first=chunk(frame("ERROR", error)))
                )
            entries, revision = (in_order(cache.entries.values()) if everything else ()), cache.revision
        first = view.initial(entries)
        if request.says("sendInitialEvents") and bookmarks:
            first += view.bookmark(revision, end_of_initial=True)
        until = time.monotonic() + min(request.number("timeoutSeconds") or LONGEST_WATCH, LONGEST_WATCH)
        return Stream(Watcher(feed, cache, view, place, until, bookmarks, chunk(first) if first else b""))

    def _shown(self, request: Request, wanted: Target, entries: Sequence[Entry], revision: str) -> bytes:
        objects = [forms.shown(wanted.served, entry) for entry in entries]
        if wants_table(request):
            return encoded(request, as_table(request, wanted.served, objects, {"resourceVersion": revision}))
        return encoded(request, objects[0])

    # -- writes

    def _writer(self, request: Request, *, is_dry: bool) -> Writer:
        options = Options(is_dry, request.query.get("fieldValidation", ""), self.rules.permissive)
        return Writer(self.feed_of, options)

    def _wrote(self, request: Request, wanted: Target, done: Done) -> Answer:
        shown = self._shown(request, wanted, [done.entry], done.entry.revision)
        return Answer(201 if done.is_new else 200, shown, headers=warnings(done.notes))

    def _delete(self, request: Request, wanted: Target) -> Answer:
        options = delete_options(request)
        done = self._writer(request, is_dry=is_dry_deletion(request, options)).delete(wanted, options)
        if not done.is_gone:
            return self._wrote(request, wanted, done)
        uid = forms.shown(wanted.served, done.entry)["metadata"]["uid"]
        details = {**status.about(wanted.served, wanted.name), "uid": uid}
        found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Answer(200, encoded(request, found))

    def _delete_all(self, request: Request, wanted: Target) -> Answer:
        page = reading.listed(self.feed_of(wanted.served.stored), self.pages, wanted, request)
        options = delete_options(request)
        writer = self._writer(request, is_dry=is_dry_deletion(request, options))
        for entry in page.entries:
            shown = forms.shown(wanted.served, entry)["metadata"]
            one = Target(wanted.served, shown.get("namespace", ""), shown["name"])
            try:
                writer.delete(one, options)
            except Refused as refused:
                if refused.code != 404:
                    raise
        return Answer(200, encoded(request, reading.as_list(wanted.served, page)))

    # -- what is no resource

    def _page(self, request: Request) -> Answer:
        if request.method == "POST" and request.path in reviews.REVIEWS:
            found = reviews.reviewed(request.path, body(request), request.user, self._why_not)
            return Answer(201, encoded(request, found))
        if request.method not in ("GET", "HEAD"):
            raise Refused(404, "the server could not find the requested resource")
        if request.path.startswith("/readyz") and not all(feed.is_well for feed in self.feeds):
            raise Refused(503, next((feed.error for feed in self.feeds if feed.error), "the store is being listed"))
        answer = page(request)
        if answer is None:
            raise Refused(404, "the server could not find the requested resource")
        return answer


def _as_oneself(request: Request) -> None:
    """Whoever asks as somebody else (`kubectl --as`) must not be answered as themselves."""
    if other := next((name for name in request.headers if name.startswith("impersonate-")), ""):
        raise Refused(403, f'User "{request.user.name}" cannot impersonate "{request.headers[other]}": '
                           "there is one user here, who may do everything; ask without --as")  # fmt: skip


def _view(request: Request, wanted: Target) -> View:
    fields = request.query.get("fieldSelector", "")
    if wanted.name:
        fields = ",".join(filter(None, (fields, f"metadata.name={wanted.name}")))
    matches = selection.selection(request.query.get("labelSelector", ""), fields)
    return View(wanted.served, wanted.namespace, matches, *watch_encoding(request, wanted.served))


def _name_in(request: Request) -> str:
    """Of an object that is being created, for messages."""
    found = body(request) if request.body else None
    return str((found.get("metadata") or {}).get("name") or "") if isinstance(found, dict) else ""


def _wants_everything(request: Request) -> bool:
    """What exists is told first: to who says so, and to who names no version."""
    if "sendInitialEvents" in request.query:
        return request.says("sendInitialEvents")
    return request.query.get("resourceVersion", "") in ("", "0")


def feeds_for(store: Store, own: Store, kinds_of_store: Sequence[str], others: Sequence[str]) -> list[Feed]:
    """`own` is this server's, for what the store has no place for."""
    return [Feed(store, kinds_of_store), Feed(own, others)]


def started(feeds: Sequence[Feed], pump: Pump) -> list[threading.Thread]:
    threads = [threading.Thread(target=feed.run, name="feed", daemon=True) for feed in feeds]
    threads.append(threading.Thread(target=pump.run, name="watches", daemon=True))
    for thread in threads:
        thread.start()
    return threads
