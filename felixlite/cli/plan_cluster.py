"""`felixlite plan -f FILE --cluster`: a change on top of what the store holds, told node by node. Asks no agent, writes nothing.

The change is judged as `felixlite apply` judges it; foretold.py says what follows; here is how it is printed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from felixlite.admission import Batch, judged
from felixlite.cli.table import printed
from felixlite.datastore.store import Document, Store
from felixlite.foretold import KINDS, READ, Places, Row, foretold
from felixlite.intake import Intake
from felixlite.snapshot import Snapshot, fold

TITLES = ("NODE", "WHAT", "BEFORE", "AFTER")
MOST_NAMED = 4  # blocks in a cell
CLOSING = (
    "By the store alone, as it is when every node has moved; -: not there, or not needed. Not seen from here: uplinks, their\n"
    "routes and MTUs, what BGP tells, flags of agents; `felixlite plan -f` on a node shows its tables, row by row."
)


def planned(store: Store, documents: Sequence[Document]) -> tuple[list[Row], list[str]]:
    """What changes, and what has to be said about it. Rejected: what `apply` would refuse."""
    batch = Batch(store, judged(documents))
    notes = batch.check()
    intake = Intake("")
    held = [(e.key, e.document) for kind in READ for e in store.list(kind).entries]
    before = fold(Snapshot(""), [change for key, document in held for change in intake.changes(key, document)])
    notes += [f"{kind} {name} is left out: {reason}" for (kind, name), reason in before.rejected.items()]
    changes = []
    for one, entry in zip(batch.judged, store.read([one.key for one in batch.judged]), strict=True):
        if one.key.kind in KINDS:
            changes += intake.changes(one.key, batch.wanted(one, entry))
        else:
            notes.append(f"{one.key} is no matter of overlays: `felixlite plan -f` on a node says what it changes")
    return foretold(before, fold(before, changes)), notes


def as_text(rows: Sequence[Row], *, styled: bool) -> str:
    if not rows:
        return f"nothing of the overlays would change on any node\n\n{CLOSING}"
    return f"{printed(TITLES, list(_cells(rows)), styled=styled)}\n\n{CLOSING}"


def _cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """A node's name once."""
    last = ""
    for row in rows:
        what = where(row.places) if row.places else row.what
        yield row.node if row.node != last else "", what, row.before or "-", row.after or "-"
        last = row.node


def where(places: Places) -> str:
    each = [f"{prefix} ({node})" for node, prefixes in places.items() for prefix in prefixes]
    if len(each) <= MOST_NAMED:
        return ", ".join(each)
    borrowed = any(prefix.is_host for prefixes in places.values() for prefix in prefixes)
    nodes = f"{len(places)} nodes" if len(places) > 1 else next(iter(places))
    return f"{len(each)} blocks{' and borrowed addresses' if borrowed else ''} of {nodes}"


def as_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {"node": row.node, "what": row.what, "before": row.before or None, "after": row.after or None}
        | ({"blocks": {node: list(map(str, prefixes)) for node, prefixes in row.places.items()}} if row.places else {})
        for row in rows
    ]
