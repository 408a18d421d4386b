"""`felixlite validate | diff`: what is wrong with files, and what applying them would change."""

import difflib
from collections.abc import Sequence
from typing import Any

import click

from felixlite.admission import Batch, Judged, judged
from felixlite.cli import files
from felixlite.cli.session import Session, file_options, namespace_option, store_option
from felixlite.cli.write import documents
from felixlite.datastore.store import Entry

COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("more", nargs=-1, metavar="[FILE...]")
@file_options
@namespace_option
@click.pass_obj
def validate(session: Session, more: Sequence[str], filenames: Sequence[str], recursive: bool, namespace: str) -> None:
    """Check files without a store: exit 0 all is right, 1 something is wrong.

    \b
    felixlite validate -f pool.yaml
    felixlite validate -R -f cluster/
    """
    found = judged(documents([*filenames, *more], namespace, recursive=recursive))
    for one in found:
        for note in one.notes:
            session.warn(note)
    click.echo(f"{len(found)} {'resource is' if len(found) == 1 else 'resources are'} right")


@click.command()
@file_options
@namespace_option
@store_option
@click.pass_context
def diff(ctx: click.Context, filenames: Sequence[str], recursive: bool, namespace: str) -> int:
    """What `felixlite apply` would change, object by object: exit 0 nothing, 1 something, 2 an error.

    \b
    felixlite diff -f pool.yaml
    felixlite diff -R -f cluster/ && echo all is as the files say
    """
    session: Session = ctx.obj
    session.error_code = 2
    batch = Batch(session.store, judged(documents(filenames, namespace, recursive=recursive)))
    for note in batch.check():
        session.warn(note)
    entries = session.store.read([one.key for one in batch.judged])
    found = [text for one, entry in zip(batch.judged, entries, strict=True) if (text := difference(batch, one, entry))]
    for text in found:
        click.echo(coloured(text) if session.is_terminal else text)
    return 1 if found else 0


def difference(batch: Batch, one: Judged, entry: Entry | None) -> str:
    before = _plain(entry.document) if entry else None
    after = _plain(batch.wanted(one, entry))
    if before == after:
        return ""
    old = files.as_yaml(before).splitlines() if before else []
    name = str(one.key)
    lines = difflib.unified_diff(
        old, files.as_yaml(after).splitlines(), f"{name} (now)", f"{name} (then)", lineterm="", n=3
    )
    return "\n".join(lines)


def coloured(text: str) -> str:
    return "\n".join(click.style(line, fg=COLOURS.get(line[:1])) for line in text.splitlines())


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """In one order, without what a store adds to every object."""
    metadata = {
        k: v for k, v in sorted(document.get("metadata", {}).items()) if k not in ("resourceVersion", "managedFields")
    }
    return {
        "apiVersion": document.get("apiVersion"),
        "kind": document.get("kind"),
        "metadata": metadata,
        **{k: _sorted(v) for k, v in sorted(document.items()) if k not in ("apiVersion", "kind", "metadata")},
    }


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(v) for k, v in sorted(value.items())}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
