"""Words in metadata.finalizers: while one of them is there, a deleted object stays and says so. Pure.

The word is written before anybody deletes, and taken away when nothing needs the object any more; who deletes it waits for that
without having to know.  Only a store behind the API of Kubernetes keeps such objects; others delete at once.
"""

from felixlite.datastore.store import Document, metadata


def has(document: Document, word: str) -> bool:
    return word in (metadata(document).get("finalizers") or ())


def guarded(document: Document, word: str) -> Document:
    return _with(document, [*(metadata(document).get("finalizers") or ()), word])


def released(document: Document, word: str) -> Document:
    return _with(document, [one for one in metadata(document).get("finalizers") or () if one != word])


def _with(document: Document, words: list[str]) -> Document:
    return {**document, "metadata": {**metadata(document), "finalizers": words}}
