"""Resources as users name them on the command line: `ippool NAME`, `ippools,bgppeers`, `ippool/NAME`."""

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from felixlite.datastore.store import Key
from felixlite.errors import FelixliteError
from felixlite.model import kinds
from felixlite.model.kind import Kind

DEFAULT_NAMESPACE = "default"


def kind_named(word: str) -> Kind:
    found = kinds.named(word)
    if found is None:
        import difflib

        near = difflib.get_close_matches(word.lower(), [kind.plural for kind in kinds.KINDS.values()], 1)
        hint = (
            f"; did you mean {near[0]}?" if near else f"; there are {', '.join(k.plural for k in kinds.calico_kinds())}"
        )
        raise click.UsageError(f"there is no kind {word!r}{hint}")
    return found


def wanted(words: Sequence[str]) -> list[tuple[Kind, list[str]]]:
    """Which kinds, and which names of each; no names: all."""
    if any("/" in word for word in words):
        return [(kind_named(kind), [name]) for kind, name in map(_split, words)]
    names = list(words[1:])
    return [(kind_named(kind), names) for kind in words[0].split(",") if kind]


def _split(word: str) -> tuple[str, str]:
    kind, slash, name = word.partition("/")
    if not slash or not name:
        raise click.UsageError(f"{word!r}: write KIND/NAME for all of them, or KIND NAME...")
    return kind, name


def key(kind: Kind, name: str, namespace: str) -> Key:
    return Key(kind.name, name, (namespace or DEFAULT_NAMESPACE) if kind.namespaced else "")


def complete_kinds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds for the first word, names of that kind for the others."""
    del parameter
    words = ctx.params.get("words") or ()
    if not words:
        offered = (kind.plural for kind in kinds.calico_kinds())
        return [CompletionItem(plural) for plural in offered if plural.startswith(incomplete.lower())]
    return complete_names(ctx, str(words[0]), incomplete)


def complete_name(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The name behind an argument `kind`."""
    del parameter
    return complete_names(ctx, ctx.params.get("kind") or "", incomplete)


def complete_names(ctx: click.Context, word: str, incomplete: str) -> list[CompletionItem]:
    kind = kinds.named(word)
    session = ctx.find_root().obj
    if kind is None or session is None:
        return []
    try:
        entries = session.store.list(kind.name).entries
    except FelixliteError:
        return []  # a completion that fails offers nothing
    return [CompletionItem(entry.key.name) for entry in entries if entry.key.name.startswith(incomplete)]
