"""Documents out of files, folders and stdin, and back into YAML and JSON.

How YAML is read is in felixlite/yamltext.py.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from felixlite.errors import FelixliteError
from felixlite.yamltext import as_yaml, values

__all__ = ["Loaded", "as_json", "as_list", "as_yaml", "loaded", "parsed", "text", "values"]

Document = dict[str, Any]

SUFFIXES = (".yaml", ".yml", ".json")


class Loaded(NamedTuple):
    origin: str  # "pools.yaml", or "pools.yaml, document 2"
    document: Document


def loaded(filenames: Sequence[str], *, recursive: bool = False) -> list[Loaded]:
    """All documents of the files, in order. FelixliteError for what cannot be read."""
    found = [one for name in filenames for path in _paths(name, recursive=recursive) for one in _read(path)]
    if not found:
        raise FelixliteError(f"{', '.join(filenames)}: there is no document in it")
    return found


def _paths(name: str, *, recursive: bool) -> Iterator[str]:
    path = Path(name)
    if name == "-" or not path.is_dir():
        yield name
        return
    inside = path.rglob("*") if recursive else path.glob("*")
    yield from sorted(str(file) for file in inside if file.suffix in SUFFIXES and file.is_file())


def _read(name: str) -> Iterator[Loaded]:
    title = "stdin" if name == "-" else name
    documents = [document for document in parsed(text(name), title) if document is not None]
    for number, document in enumerate(documents, 1):
        origin = title if len(documents) == 1 else f"{title}, document {number}"
        yield from _unfolded(document, origin)


def text(name: str) -> str:
    """What is in a file, or comes from stdin."""
    octets = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FelixliteError(f"{name}: is not text in UTF-8 (byte {error.start})") from None


def _unfolded(document: Any, origin: str) -> Iterator[Loaded]:
    """A List is what is in it."""
    if not isinstance(document, dict):
        raise FelixliteError(f"{origin}: must be a mapping with apiVersion, kind and metadata, not {document!r:.40}")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for number, item in enumerate(document["items"], 1):
            yield from _unfolded(item, f"{origin}, item {number}")
        return
    yield Loaded(origin, document)


def parsed(text: str, title: str) -> list[Any]:
    """The documents in a text of YAML or JSON; a list in JSON is several."""
    found = values(text, title)
    return found[0] if len(found) == 1 and isinstance(found[0], list) and text.lstrip().startswith("[") else found


def as_json(document: Any) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def as_list(documents: Iterable[Document]) -> Document:
    return {"apiVersion": "v1", "kind": "List", "items": list(documents)}
