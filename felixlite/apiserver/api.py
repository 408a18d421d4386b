"""From a request to its answer: who may, which resource, which verb, in which form. Knows no socket.

What an answer is made of is elsewhere: reading.py, writing.py, watching.py, tables.py, discovery.py, openapi.py.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

import felixlite
from felixlite.apiserver import discovery, forms, judging, reading, selection, status, tables
from felixlite.apiserver.cache import Feed, Gone
from felixlite.apiserver.requests import Request, Target, target
from felixlite.apiserver.status import Refused
from felixlite.apiserver.watching import Pump, View, Watcher, chunk, frame
from felixlite.apiserver.writing import Done, Options, Writer
from felixlite.datastore.store import Document, Entry, Store, in_order
from felixlite.errors import FelixliteError, Rejected, StoreError
from felixlite.model import patch
from felixlite.yamltext import values

KUBERNETES = "v1.32.0"  # whose ways are followed; clients ask for it
LONGEST_WATCH = 3600
JSON = "application/json"
READS = ("get", "list", "watch")
Judge = Callable[[Any, Target | None, str], str]  # why a user may not; "": may


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A watch: head and first frames; the rest comes from the pump."""

    watcher: Watcher


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
            return Answer(refused.code, _encoded(request, refused.document()), headers=after)

    def _answer(self, request: Request) -> Answer | Stream:
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
            raise status.of_error(error, wanted.served, wanted.name) from None

    def _may(self, request: Request, wanted: Target, verb: str) -> None:
        why = self.rules.may(request.user, wanted, verb) if self.rules.may else ""
        if not why and self.rules.read_only and verb not in READS:
            why = "this server is read-only"
        if why:
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
                return self._wrote(request, wanted, self._writer(request).create(wanted, body(request)))
            case "update":
                return self._wrote(request, wanted, self._writer(request).change(wanted, lambda _: body(request)))
            case "patch":
                how = patching(request, wanted)
                return self._wrote(request, wanted, self._writer(request).change(wanted, how))
            case "delete":
                return self._deleted(request, wanted, self._writer(request).delete(wanted, delete_options(request)))
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
            return Answer(200, _encoded(request, _table(request, wanted, objects, reading.page_metadata(page))))
        return Answer(200, _encoded(request, reading.as_list(wanted.served, page)))

    def _watch(self, request: Request, wanted: Target) -> Stream:
        fields = request.query.get("fieldSelector", "")
        if wanted.name:
            fields = ",".join(filter(None, (fields, f"metadata.name={wanted.name}")))
        matches = selection.selection(request.query.get("labelSelector", ""), fields)
        view = _view(request, wanted, matches)
        feed = self.feed_of(wanted.served.stored)
        cache = reading.ready(feed, wanted.served)
        seconds = min(request.number("timeoutSeconds") or LONGEST_WATCH, LONGEST_WATCH)
        asked = request.query.get("resourceVersion", "")
        with feed.news:
            everything = request.says("sendInitialEvents") or (
                asked in ("", "0") and "sendInitialEvents" not in request.query
            )
            try:
                place = cache.end if everything or not asked.isdecimal() else cache.place(asked)
            except Gone:
                gone = status.expired(f"too old resource version: {asked} ({cache.revision})")
                watcher = Watcher(feed, cache, view, cache.end, 0.0, bookmarks=False)
                watcher.first = chunk(frame("ERROR", gone.document()))
                return Stream(watcher)
            entries, revision = (in_order(cache.entries.values()) if everything else ()), cache.revision
        watcher = Watcher(
            feed, cache, view, place, time.monotonic() + seconds, bookmarks=request.says("allowWatchBookmarks")
        )
        first = view.initial(entries)
        if request.says("sendInitialEvents") and watcher.bookmarks:
            first += view.bookmark(revision, end_of_initial=True)
        watcher.first = chunk(first) if first else b""
        return Stream(watcher)

    def _shown(self, request: Request, wanted: Target, entries: Sequence[Entry], revision: str) -> bytes:
        objects = [forms.shown(wanted.served, entry) for entry in entries]
        if wants_table(request):
            return _encoded(request, _table(request, wanted, objects, {"resourceVersion": revision}))
        return _encoded(request, objects[0])

    # -- writes

    def _writer(self, request: Request) -> Writer:
        options = Options(request.is_dry, request.query.get("fieldValidation", ""), self.rules.permissive)
        return Writer(self.feed_of, options)

    def _wrote(self, request: Request, wanted: Target, done: Done) -> Answer:
        shown = self._shown(request, wanted, [done.entry], done.entry.revision)
        return Answer(201 if done.is_new else 200, shown, headers=_warnings(done.notes))

    def _deleted(self, request: Request, wanted: Target, done: Done) -> Answer:
        if not done.is_gone:
            return self._wrote(request, wanted, done)
        uid = forms.shown(wanted.served, done.entry)["metadata"]["uid"]
        details = {**status.about(wanted.served, wanted.name), "uid": uid}
        found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Answer(200, _encoded(request, found))

    def _delete_all(self, request: Request, wanted: Target) -> Answer:
        page = reading.listed(self.feed_of(wanted.served.stored), self.pages, wanted, request)
        writer, options = self._writer(request), delete_options(request)
        for entry in page.entries:
            shown = forms.shown(wanted.served, entry)["metadata"]
            one = Target(wanted.served, shown.get("namespace", ""), shown["name"])
            try:
                writer.delete(one, options)
            except Refused as refused:
                if refused.code != 404:
                    raise
        return Answer(200, _encoded(request, reading.as_list(wanted.served, page)))

    # -- what is no resource

    def _page(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            raise Refused(404, "the server could not find the requested resource")
        found = page(request)
        if found is None:
            raise Refused(404, "the server could not find the requested resource")
        return found


def page(request: Request) -> Answer | None:
    steps = [step for step in request.path.split("/") if step]
    match steps:
        case ["healthz" | "livez" | "readyz", *_]:
            return Answer(200, b"ok", "text/plain")
        case ["version"]:
            return Answer(200, _encoded(request, version()))
        case ["api"] | ["apis"] if chosen := _aggregation(request):
            found: Document | None = discovery.aggregated(core=steps == ["api"], version=chosen)
            return Answer(
                200, _encoded(request, found), f"{JSON};g=apidiscovery.k8s.io;v={chosen};as=APIGroupDiscoveryList"
            )
        case ["api"]:
            found = discovery.legacy_versions(request.headers.get("host", ""))
        case ["apis"]:
            found = discovery.group_list()
        case ["api", version_]:
            found = discovery.resource_list("", version_)
        case ["apis", group]:
            found = discovery.group(group)
        case ["apis", group, version_]:
            found = discovery.resource_list(group, version_)
        case _:
            return None
    return Answer(200, _encoded(request, found)) if found else None


def version() -> Document:
    _, minor, _ = KUBERNETES.split(".")
    return {
        "major": "1",
        "minor": minor,
        "gitVersion": f"{KUBERNETES}+felixlite.{felixlite.__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "",
        "platform": "",
    }


def _aggregation(request: Request) -> str:
    for part in request.accept.split(","):
        words = {word.strip() for word in part.split(";")}
        if "as=APIGroupDiscoveryList" in words:
            chosen = next((word[2:] for word in words if word.startswith("v=")), "")
            if chosen in ("v2", "v2beta1"):
                return chosen
    return ""


# -- bodies


def body(request: Request) -> Any:
    if not request.body:
        raise Refused(400, "the body is empty; it must be an object")
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip() or JSON
    if kind in ("application/yaml", "application/apply-patch+yaml"):
        return _yaml(request.body)
    if kind.endswith("json") or kind == "*/*":
        return _json(request.body)
    raise Refused(415, f"the body of the request is {kind}; this server reads {JSON} and application/yaml")


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None


def _yaml(text: bytes) -> Any:
    try:
        found = values(text.decode(errors="replace"), "the body")
    except FelixliteError as error:
        raise Refused(400, str(error)) from None
    if len(found) != 1:
        raise Refused(400, f"the body has {len(found)} documents; it must have one")
    return found[0]


def delete_options(request: Request) -> Mapping[str, Any]:
    found = _json(request.body) if request.body else {}
    if not isinstance(found, dict):
        raise Refused(400, "the body must be DeleteOptions")
    if "gracePeriodSeconds" in request.query:
        found["gracePeriodSeconds"] = request.number("gracePeriodSeconds")
    return found


def patching(request: Request, wanted: Target) -> Callable[[Document], object]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    change = body(request)
    match kind:
        case "application/merge-patch+json":
            return lambda before: patch.merge(before, change)
        case "application/json-patch+json":
            return lambda before: _json_patched(before, change)
        case "application/strategic-merge-patch+json" if not wanted.served.is_calico:
            from felixlite.apiserver import strategic

            return lambda before: strategic.merge(before, change)
    served = "application/merge-patch+json, application/json-patch+json"
    served += "" if wanted.served.is_calico else ", application/strategic-merge-patch+json"
    more = "; server-side apply is not done here: use `kubectl apply` without --server-side" if "apply" in kind else ""
    raise Refused(415, f"the body of the request was in an unknown format {kind!r}; accepted: {served}{more}")


def _json_patched(before: Document, change: Any) -> Any:
    try:
        return patch.apply(before, change)
    except patch.PatchError as error:
        raise Refused(422, f"the patch cannot be applied: {error}") from None


# -- forms of answers


def wants_table(request: Request) -> bool:
    first = next((part for part in request.accept.split(",") if "as=" in part), "")
    return "as=Table" in first


def _table(request: Request, wanted: Target, objects: Any, metadata: Document) -> Document:
    include = request.query.get("includeObject", "Metadata")
    return tables.table(wanted.served, objects, tables.utc_now(), include, metadata)


def _view(request: Request, wanted: Target, matches: selection.Matches | None) -> View:
    if not wants_table(request):
        return View(wanted.served, wanted.namespace, matches)
    include = request.query.get("includeObject", "Metadata")

    def encode(kind: str, found: Document) -> bytes:
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
        return frame(kind, tables.table(wanted.served, [found], tables.utc_now(), include, metadata))

    return View(wanted.served, wanted.namespace, matches, encode, f"table {include}")


def _warnings(notes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(("Warning", f'299 - "{_quoted(note)}"') for note in notes)


def _quoted(note: str) -> str:
    return note.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _encoded(request: Request, found: Any) -> bytes:
    """In one line; indented for people (kube-api.md: a curl, or who asks for it)."""
    is_person = request.headers.get("user-agent", "").startswith("curl/") or request.says("pretty")
    return orjson.dumps(
        found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if is_person else orjson.OPT_APPEND_NEWLINE
    )


def feeds_for(store: Store, own: Store, kinds_of_store: Sequence[str], others: Sequence[str]) -> list[Feed]:
    """`own` is this server's, for what the store has no place for."""
    return [Feed(store, kinds_of_store), Feed(own, others)]


def started(feeds: Sequence[Feed], pump: Pump) -> list[threading.Thread]:
    threads = [threading.Thread(target=feed.run, name="feed", daemon=True) for feed in feeds]
    threads.append(threading.Thread(target=pump.run, name="watches", daemon=True))
    for thread in threads:
        thread.start()
    return threads


__all__ = ["Answer", "Api", "Rules", "Stream", "judging"]
