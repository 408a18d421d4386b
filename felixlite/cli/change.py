"""`felixlite patch | edit | label`: one resource that exists, changed."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from felixlite.admission import change
from felixlite.cli import files, named
from felixlite.cli.get import document as shown
from felixlite.cli.session import Session, namespace_option, store_option
from felixlite.cli.write import say
from felixlite.errors import FelixliteError, NotFound, Problem, Rejected
from felixlite.model.patch import PatchError, apply, merge

Document = dict[str, Any]


@click.command()
@click.argument("kind", shell_complete=named.complete_kinds)
@click.argument("name", shell_complete=named.complete_name)
@click.option("-p", "--patch", "given", required=True, help="The change, in YAML or JSON; @FILE reads it from a file.")
@click.option("-t", "--type", "form", type=click.Choice(["merge", "json"]), default="merge", show_default=True)
@namespace_option
@store_option
@click.pass_obj
def patch(session: Session, kind: str, name: str, given: str, form: str, namespace: str) -> None:
    """Change fields of a resource.

    \b
    felixlite patch ippool default-ipv4-ippool -p '{spec: {ipipMode: CrossSubnet}}'
    felixlite patch node n1 -p '{metadata: {labels: {rack: null}}}'
    felixlite patch bgppeer tor -t json -p '[{op: replace, path: /spec/asNumber, value: 65001}]'
    """
    text = files.text(given[1:]) if given.startswith("@") else given
    wanted = next(iter(files.values(text, "--patch")), None)

    def changed(document: Document) -> Mapping[str, Any]:
        try:
            found = apply(document, wanted) if form == "json" else merge(document, wanted)
        except PatchError as error:
            raise FelixliteError(f"--patch: {error}") from None
        if not isinstance(found, dict):
            raise FelixliteError("--patch: must be a mapping; for a list of operations say --type json")
        return found

    say(change(session.store, named.key(named.kind_named(kind), name, namespace), changed))


@click.command()
@click.argument("kind", shell_complete=named.complete_kinds)
@click.argument("name", shell_complete=named.complete_name)
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@click.option("--overwrite", is_flag=True, help="Also a label that has another value.")
@click.option("--remove", is_flag=True, help="Remove the labels KEY.")
@namespace_option
@store_option
@click.pass_obj
def label(
    session: Session, kind: str, name: str, labels: Sequence[str], overwrite: bool, remove: bool, namespace: str
) -> None:
    """Set or remove labels of a resource.

    \b
    felixlite label node n1 rack=a
    felixlite label node n1 rack=b --overwrite
    felixlite label node n1 rack-
    """
    wanted = dict(_label(text, remove=remove) for text in labels)

    def changed(document: Document) -> Document:
        metadata = document.setdefault("metadata", {})
        now = metadata.setdefault("labels", {})
        for key, value in wanted.items():
            if value is None:
                now.pop(key, None)
            elif now.get(key, value) != value and not overwrite:
                raise FelixliteError(f"label {key} is {now[key]!r} already; --overwrite changes it to {value!r}")
            else:
                now[key] = value
        return document

    say(change(session.store, named.key(named.kind_named(kind), name, namespace), changed))


def _label(text: str, *, remove: bool) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if equals and not remove:
        return key, value
    if not equals and (remove or text.endswith("-")):
        return text.removesuffix("-"), None
    raise click.UsageError(f"{text!r}: write KEY=VALUE to set a label, KEY- to remove it")


@click.command()
@click.argument("kind", shell_complete=named.complete_kinds)
@click.argument("name", shell_complete=named.complete_name)
@namespace_option
@store_option
@click.pass_obj
def edit(session: Session, kind: str, name: str, namespace: str) -> None:
    """Change a resource in your editor: $KUBE_EDITOR, $EDITOR or vi.

    \b
    felixlite edit ippool default-ipv4-ippool
    """
    key = named.key(named.kind_named(kind), name, namespace)
    entry = session.store.get(key)
    if entry is None:
        raise NotFound(f"there is no {key}")
    text, complaint = files.as_yaml(shown(entry)), ""
    while True:
        before = _commented(complaint) + text
        text = _bare(_edited(before))
        if text == _bare(before):
            raise FelixliteError(complaint or f"{key}: nothing was changed")
        try:
            say(change(session.store, key, _replacing(entry.document, text)))
        except Rejected as error:
            complaint = str(error)  # once more, with what is wrong on top
        else:
            return


def _replacing(read: Document, text: str) -> Callable[[Document], Document]:
    """What the user wrote, in place of what he read; nobody else's change is lost for it."""
    wanted = files.parsed(text, "what you wrote")
    if len(wanted) != 1 or not isinstance(wanted[0], dict):
        raise Rejected([Problem("what you wrote", "", "", None, "must be one document")])

    def changed(now: Document) -> Document:
        if now != read:
            raise FelixliteError("somebody else changed it meanwhile; edit it again")
        return dict(wanted[0])

    return changed


def _commented(complaint: str) -> str:
    return "".join(f"# {line}\n" for line in complaint.splitlines())


def _bare(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _edited(text: str) -> str:
    editor = os.environ.get("KUBE_EDITOR") or os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="felixlite-edit-") as folder:  # mode 0700
        path = Path(folder) / "resource.yaml"
        path.write_text(text)
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except FileNotFoundError:
            raise FelixliteError(f"there is no editor {editor!r}; set $EDITOR") from None
        if done.returncode:
            raise FelixliteError(f"{editor} ended with {done.returncode}; nothing is changed")
        return path.read_text()
