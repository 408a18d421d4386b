"""`felixlite apply | create | replace | delete`: files into the store. All is checked before anything is written."""

from collections.abc import Sequence

import click

from felixlite.admission import Batch, Judged, Outcome, Verb, judged, remove
from felixlite.cli import files, named
from felixlite.cli.session import Session, file_options, namespace_option, store_option
from felixlite.datastore.store import Key
from felixlite.errors import Problem, Rejected
from felixlite.model import kinds
from felixlite.model.resource import identified, title_of


@click.command()
@file_options
@namespace_option
@store_option
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.pass_obj
def apply(session: Session, filenames: Sequence[str], recursive: bool, namespace: str, dry_run: bool) -> None:
    """Create resources, or change those that exist to what files say.

    \b
    felixlite apply -f pool.yaml
    felixlite apply -R -f cluster/
    cat peers.yaml | felixlite apply -f -
    """
    _write(session, Verb.APPLY, documents(filenames, namespace, recursive=recursive), dry_run=dry_run)


@click.command()
@file_options
@namespace_option
@store_option
@click.option("--skip-exists", is_flag=True, help="Pass over what exists already.")
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.pass_obj
def create(
    session: Session, filenames: Sequence[str], recursive: bool, namespace: str, skip_exists: bool, dry_run: bool
) -> None:
    """Create resources that do not exist.

    \b
    felixlite create -f pool.yaml
    felixlite create --skip-exists -f cluster/
    """
    found = documents(filenames, namespace, recursive=recursive)
    _write(session, Verb.CREATE, found, dry_run=dry_run, skip_existing=skip_exists)


@click.command()
@file_options
@namespace_option
@store_option
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.pass_obj
def replace(session: Session, filenames: Sequence[str], recursive: bool, namespace: str, dry_run: bool) -> None:
    """Replace resources that exist.

    \b
    felixlite get ippool default-ipv4-ippool -o yaml >pool.yaml
    felixlite replace -f pool.yaml
    """
    _write(session, Verb.REPLACE, documents(filenames, namespace, recursive=recursive), dry_run=dry_run)


@click.command()
@click.argument("words", nargs=-1, metavar="[KIND NAME...]", shell_complete=named.complete_kinds)
@file_options
@namespace_option
@store_option
@click.option(
    "-s", "--skip-not-exists", "--ignore-not-found", "skip", is_flag=True, help="Pass over what is not there."
)
@click.option("--force", is_flag=True, help="Also an IPPool whose addresses are in use.")
@click.pass_obj
def delete(
    session: Session,
    words: Sequence[str],
    filenames: Sequence[str],
    recursive: bool,
    namespace: str,
    skip: bool,
    force: bool,
) -> None:
    """Delete resources by name, or those that files name.

    \b
    felixlite delete bgppeer tor-1 tor-2
    felixlite delete networkpolicy -n shop web
    felixlite delete -f cluster/
    """
    if bool(words) == bool(filenames):
        raise click.UsageError("say which resources: KIND NAME... or -f FILE")
    keys = _named(words, namespace) if words else _in_files(filenames, namespace, recursive=recursive)
    for outcome in remove(session.store, keys, missing_is_fine=skip, force=force):
        say(outcome)


def documents(filenames: Sequence[str], namespace: str, *, recursive: bool) -> list[files.Document]:
    """The documents of the files; what has a namespace and says none is in `namespace`."""
    if not filenames:
        raise click.UsageError("say which files: -f FILE")
    found = [one.document for one in files.loaded(filenames, recursive=recursive)]
    return [_placed(document, namespace) for document in found]


def _placed(document: files.Document, namespace: str) -> files.Document:
    kind = kinds.described(document.get("apiVersion"), document.get("kind"))
    metadata = document.get("metadata")
    if kind is None or not kind.namespaced or not isinstance(metadata, dict):
        return document
    own = metadata.get("namespace")
    if own and namespace and own != namespace:
        remedy = f"is not -n {namespace}; leave one of them out"
        raise Rejected([Problem(kind.name, title_of(document), "metadata.namespace", own, remedy)])
    place = own or namespace or named.DEFAULT_NAMESPACE
    return {**document, "metadata": {**metadata, "namespace": place}}


def say(outcome: Outcome) -> None:
    click.echo(f"{_word(outcome.key)} {outcome.done}")


def _word(key: Key) -> str:
    place = f" -n {key.namespace}" if key.namespace else ""
    return f"{key.kind.lower()}/{key.name}{place}"


def _write(
    session: Session, verb: Verb, found: list[files.Document], *, dry_run: bool, skip_existing: bool = False
) -> None:
    batch = Batch(session.store, judged(found), verb, skip_existing=skip_existing)
    for note in batch.check():
        session.warn(note)
    if dry_run:
        _foretell(session, batch.judged)
        return
    for outcome in batch.write():
        say(outcome)


def _foretell(session: Session, found: Sequence[Judged]) -> None:
    for one, entry in zip(found, session.store.read([one.key for one in found]), strict=True):
        click.echo(f"{_word(one.key)} would be {'configured' if entry else 'created'}")


def _named(words: Sequence[str], namespace: str) -> list[Key]:
    found = named.wanted(words)
    for kind, names in found:
        if not names:
            raise click.UsageError(f"say which {kind.plural} to delete by name")
    return [named.key(kind, name, namespace) for kind, names in found for name in names]


def _in_files(filenames: Sequence[str], namespace: str, *, recursive: bool) -> list[Key]:
    found = []
    for document in documents(filenames, namespace, recursive=recursive):
        kind, metadata = identified(document), document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str) or not name:
            raise Rejected([Problem(kind.name, "", "metadata.name", name, "is required")])
        found.append(Key(kind.name, name, metadata.get("namespace", "") if kind.namespaced and metadata else ""))
    return found
