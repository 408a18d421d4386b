"""`felixlite get`: what is in the store, as a table, YAML, JSON or names."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click

from felixlite.cli import files, named
from felixlite.cli.session import Session, namespace_option, store_option
from felixlite.cli.table import GAP, printed
from felixlite.datastore.store import Changed, Deleted, Entry
from felixlite.errors import NotFound
from felixlite.model.kind import Column, Kind, at
from felixlite.model.selector import Selector, SelectorError
from felixlite.model.selector import parse as parse_selector

FORMATS = ("table", "wide", "yaml", "json", "name")


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME...]", shell_complete=named.complete_kinds)
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("-l", "--selector", "labels", default="", help="Only with these labels: app=web or app == 'web'.")
@click.option("-w", "--watch", is_flag=True, help="Stay, and show what changes (one kind, table, wide or name).")
@click.option("--export", is_flag=True, help="Without what belongs to this cluster alone, for another one.")
@store_option
@click.pass_obj
def get(
    session: Session,
    words: Sequence[str],
    output: str,
    namespace: str,
    all_namespaces: bool,
    labels: str,
    watch: bool,
    export: bool,
) -> None:
    """Show resources.

    \b
    felixlite get ippools -o wide
    felixlite get ippool default-ipv4-ippool -o yaml
    felixlite get networkpolicies -A -l team=shop
    felixlite get nodes,bgppeers -o name
    felixlite get workloadendpoints -A -w

    The store is $FELIXLITE_STORE or --store: etcd://HOST:PORT[,HOST:PORT]?cacert=&cert=&key=, file://DIR, kubernetes://,
    kubernetes://; without either, a folder on this machine.
    """
    chosen = selector(labels)
    if watch:
        _watch(session, words, output, _Choice("" if all_namespaces else namespace or named.DEFAULT_NAMESPACE, chosen))
        return
    found = [
        (kind, _entries(session, kind, names, "" if all_namespaces else namespace or named.DEFAULT_NAMESPACE, chosen))
        for kind, names in named.wanted(words)
    ]
    if output in ("table", "wide"):
        _show_tables(session, found, wide=output == "wide", namespaces=all_namespaces)
    elif output == "name":
        for kind, entries in found:
            for entry in entries:
                click.echo(f"{kind.name.lower()}/{entry.key.name}")
    else:
        shown = [document(entry, export=export) for _, entries in found for entry in entries]
        one_asked = len(shown) == 1 and sum(len(names) for _, names in named.wanted(words)) == 1
        whole = shown[0] if one_asked else files.as_list(shown)
        click.echo(files.as_yaml(whole) if output == "yaml" else files.as_json(whole), nl=output == "json")


def selector(text: str) -> Selector | None:
    """Ours, `app == 'web'`, or kubectl's, `app=web,tier!=db,!canary`."""
    if not text:
        return None
    try:
        return parse_selector(text)
    except SelectorError as error:
        try:
            return parse_selector(" && ".join(_in_our_words(part) for part in text.split(",")))
        except SelectorError:
            raise click.UsageError(f"--selector {error}") from None


def _in_our_words(part: str) -> str:
    for theirs, ours in (("!=", "!="), ("==", "=="), ("=", "==")):
        name, found, value = part.partition(theirs)
        if found:
            return f"{name.strip()} {ours} '{value.strip()}'"
    name = part.strip()
    return f"!has({name[1:]})" if name.startswith("!") else f"has({name})"


def document(entry: Entry, *, export: bool = False) -> dict[str, Any]:
    """As a user sees it: with its revision; for another cluster, without what this one added."""
    metadata = dict(entry.document.get("metadata") or {})
    if export:
        kept = ("name", "namespace", "labels", "annotations")
        metadata = {name: metadata[name] for name in kept if name in metadata}
        return {name: value for name, value in {**entry.document, "metadata": metadata}.items() if name != "status"}
    return {**entry.document, "metadata": {**metadata, "resourceVersion": entry.revision}}


def _entries(session: Session, kind: Kind, names: Sequence[str], place: str, chosen: Selector | None) -> list[Entry]:
    if names:
        keys = [named.key(kind, name, place) for name in names]
        entries = session.store.read(keys)
        missing = [str(key) for key, entry in zip(keys, entries, strict=True) if entry is None]
        if missing:
            raise NotFound(f"there is no {', no '.join(missing)}")
        found: Iterable[Entry] = [entry for entry in entries if entry]
    else:
        found = session.store.list(kind.name, namespace=place if kind.namespaced else "").entries
    return [entry for entry in found if chosen is None or chosen.matches(_labels(entry))]


class _Choice(NamedTuple):
    namespace: str  # "": all
    selector: Selector | None
    names: frozenset[str] = frozenset()  # none: all

    def takes(self, entry: Entry) -> bool:
        here = not self.namespace or not entry.key.namespace or entry.key.namespace == self.namespace
        named_so = not self.names or entry.key.name in self.names
        return here and named_so and (self.selector is None or self.selector.matches(_labels(entry)))


def _watch(session: Session, words: Sequence[str], output: str, choice: _Choice) -> None:
    """Rows as things change, until somebody interrupts; what is deleted is said to be so."""
    asked = named.wanted(words)
    if len({kind.name for kind, _ in asked}) != 1 or output in ("yaml", "json"):
        raise click.UsageError("--watch shows one kind, as table, wide or name")
    kind = asked[0][0]
    choice = choice._replace(names=frozenset(name for _, names in asked for name in names))
    listing = session.store.list(kind.name)
    shown = [entry for entry in listing.entries if choice.takes(entry)]
    everywhere = not choice.namespace
    if output == "name":
        for entry in shown:
            click.echo(f"{kind.name.lower()}/{entry.key.name}")
    else:
        _show_tables(session, [(kind, shown)], wide=output == "wide", namespaces=everywhere)
    with session.store.watch(kind.name, listing.revision) as events:
        for event in events:
            match event:
                case Changed(entry) if choice.takes(entry):
                    click.echo(_row(kind, entry, output, namespaces=everywhere))
                case Deleted(key, _) if choice.takes(Entry(key, {}, "")) or choice.selector is not None:
                    click.echo(f"{kind.name.lower()}/{key.name} deleted")


def _row(kind: Kind, entry: Entry, output: str, *, namespaces: bool) -> str:
    if output == "name":
        return f"{kind.name.lower()}/{entry.key.name}"
    return GAP.join(_cells(kind, entry, wide=output == "wide", namespaces=namespaces))


def _labels(entry: Entry) -> dict[str, str]:
    return dict((entry.document.get("metadata") or {}).get("labels") or {})


def _show_tables(session: Session, found: list[tuple[Kind, list[Entry]]], *, wide: bool, namespaces: bool) -> None:
    shown = 0
    for kind, entries in found:
        if not entries:
            continue
        if shown:
            click.echo()
        shown += 1
        columns = [column for column in kind.columns if wide or not column.wide]
        titles = [*(["NAMESPACE"] if kind.namespaced and namespaces else []), "NAME", *(c.title for c in columns)]
        rows = [_cells(kind, entry, wide=wide, namespaces=namespaces) for entry in entries]
        click.echo(printed(titles, rows, styled=session.is_terminal))
    if not shown:
        click.echo(f"no {', '.join(kind.plural for kind, _ in found)} found", err=True)


def _cells(kind: Kind, entry: Entry, *, wide: bool, namespaces: bool) -> list[str]:
    place = [entry.key.namespace] if kind.namespaced and namespaces else []
    columns = [column for column in kind.columns if wide or not column.wide]
    return [*place, entry.key.name, *(cell(entry.document, column) for column in columns)]


def cell(entry: dict[str, Any], column: Column) -> str:
    return _text(at(entry, column.path), column.empty)


def _text(value: object, empty: str) -> str:
    if value is None:
        return empty
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ",".join(_text(item, "") for item in value)
    if isinstance(value, dict):
        return ",".join(f"{k}={_text(v, '')}" for k, v in value.items())
    return str(value)
