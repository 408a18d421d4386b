"""What a request is answered with, and how objects look in it: JSON in a line, for people indented, or a Table. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from felixlite.apiserver import tables
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.requests import Request
from felixlite.apiserver.watching import Encode, Watcher, frame
from felixlite.datastore.store import Document

JSON = "application/json"


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


def encoded(request: Request, found: Any) -> bytes:
    """In one line; indented for people (kube-api.md: a curl, or who asks for it)."""
    is_person = request.headers.get("user-agent", "").startswith("curl/") or request.says("pretty")
    return orjson.dumps(
        found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if is_person else orjson.OPT_APPEND_NEWLINE
    )


def wants_table(request: Request) -> bool:
    first = next((part for part in request.accept.split(",") if "as=" in part), "")
    return "as=Table" in first


def as_table(request: Request, served: Served, objects: Iterable[Document], metadata: Document) -> Document:
    return tables.table(served, objects, datetime.now(UTC), request.query.get("includeObject", "Metadata"), metadata)


def watch_encoding(request: Request, served: Served) -> tuple[Encode, str]:
    """How a change is told, and the words by which watchers with the same way are known."""
    if not wants_table(request):
        return frame, ""

    def encode(kind: str, found: Document) -> bytes:
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
        return frame(kind, as_table(request, served, [found], metadata))

    return encode, f"table {request.query.get('includeObject', 'Metadata')}"


def warnings(notes: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple(("Warning", f'299 - "{_quoted(note)}"') for note in notes)


def _quoted(note: str) -> str:
    return note.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
