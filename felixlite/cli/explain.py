"""`felixlite explain`: what a kind is and what its fields mean, from the models that check them."""

import textwrap

import click

from felixlite.cli import named
from felixlite.cli.session import Session
from felixlite.cli.table import printed
from felixlite.errors import FelixliteError
from felixlite.model.kind import Kind
from felixlite.model.kinds import calico_kinds
from felixlite.model.schema import Place, custom_resources, place, places, structural
from felixlite.yamltext import as_yaml

WIDTH = 110


@click.command()
@click.argument("what", metavar="KIND[.FIELD...]", required=False, shell_complete=named.complete_kinds)
@click.option("--recursive", is_flag=True, help="Also the fields of the fields.")
@click.option("--markdown", is_flag=True, help="All kinds of Calico, as docs/resources.md.")
@click.option("--crds", is_flag=True, help="Their CustomResourceDefinitions, as manifests/crds/crds.yaml.")
@click.pass_obj
def explain(session: Session, what: str | None, recursive: bool, markdown: bool, crds: bool) -> None:
    """What a kind is, and what its fields mean.

    \b
    felixlite explain ippool
    felixlite explain ippool.spec.ipipMode
    felixlite explain bgppeer.spec --recursive
    """
    if markdown:
        click.echo(handbook(), nl=False)
        return
    if crds:
        click.echo(definitions(), nl=False)
        return
    if not what:
        raise click.UsageError("say which kind: KIND or KIND.FIELD")
    _explain(session, what, recursive=recursive)


def _explain(session: Session, what: str, *, recursive: bool) -> None:
    word, _, path = what.partition(".")
    kind = named.kind_named(word)
    found = place(kind, path)
    if found is None:
        raise FelixliteError(f"{kind.name} has no field {path!r}; see `felixlite explain {word} --recursive`")
    title = f"{kind.name}.{found.path}" if found.path else f"{kind.name} ({kind.api_version})"
    click.echo(click.style(title, bold=True) if session.is_terminal else title)
    click.echo(textwrap.fill(" ".join(filter(None, [found.description, *_limits(found)])), WIDTH))
    inside = found.schema.get("items", found.schema)
    rows = [
        [one.path, one.type, "required" if one.is_required else _default(one), one.description]
        for one in places(inside)
        if recursive or "." not in one.path.replace("[]", "")
    ]
    if rows:
        click.echo()
        click.echo(printed(["FIELD", "TYPE", "DEFAULT", "DESCRIPTION"], rows, styled=session.is_terminal))


def _limits(found: Place) -> list[str]:
    if not found.path:
        return []
    said = [f"Type: {found.type}."]
    if found.schema.get("default") is not None:
        said.append(f"Default: {_default(found)}.")
    low, high = found.schema.get("minimum"), found.schema.get("maximum")
    if low is not None or high is not None:
        said.append(f"From {'any' if low is None else low} to {'any' if high is None else high}.")
    if "maxItems" in found.schema:
        said.append(f"At most {found.schema['maxItems']} entries.")
    if "x-kubernetes-validations" in found.schema and "changed" not in found.description:
        said.append("Cannot be changed.")
    return said


def _default(found: Place) -> str:
    default = found.schema.get("default")
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def handbook() -> str:
    """docs/resources.md."""
    sections = (_section(kind) for kind in calico_kinds())
    return "\n".join([_OPENING, *sections])


def definitions() -> str:
    """manifests/crds/crds.yaml."""
    opening = "# Made by `felixlite explain --crds >manifests/crds/crds.yaml` from the models that check resources.\n"
    return opening + "---\n".join(as_yaml(one) for one in custom_resources())


_OPENING = """# Resources

Made by `felixlite explain --markdown >docs/resources.md` from the models that check resources; `felixlite explain KIND`
shows the same on a terminal. All kinds are accepted as `projectcalico.org/v3` and as `crd.projectcalico.org/v1`.
"""


def _section(kind: Kind) -> str:
    schema = structural(kind)
    names = ", ".join(f"`{name}`" for name in (kind.plural, *kind.short))
    scope = "in a namespace" if kind.namespaced else "for the whole cluster"
    rows = [
        f"| `{one.path.removeprefix('spec.')}` | {_cell(one.type)} | {_cell(_said(one))} | {_cell(_about(one))} |"
        for one in places(schema)
        if one.path.startswith("spec.")
    ]
    table = ["| field of `spec` | type | default | |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {kind.name}", "", f"{schema['description']} {names}; {scope}.", "", *table, ""])


def _said(one: Place) -> str:
    return "required" if one.is_required else _default(one)


def _about(one: Place) -> str:
    return " ".join(
        filter(None, [one.description, *(said for said in _limits(one) if not said.startswith(("Type", "Def")))])
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
