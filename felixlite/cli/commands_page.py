"""docs/commands.md, made from the commands themselves: `./run py -m felixlite.cli.commands_page >docs/commands.md`."""

import inspect
from collections.abc import Iterator

import click

from felixlite.cli.main import GROUPS, felixlite
from felixlite.cli.session import Session

HEAD = """# Commands

Made from the commands by `./run py -m felixlite.cli.commands_page`; a test compares. Every command has `--help`. Exit code 0:
done, or all is well; 1: it failed, or something is to be seen to; 2: it was called wrongly.

Where the store is: `--store URL` before the command or after it, else `$FELIXLITE_STORE`, else
`file:///var/lib/felixlite/store`. URLs: `etcd://HOST:PORT[,HOST:PORT]?cacert=&cert=&key=&user=&passwordfile=`,
`file:///FOLDER`, `memory://`.
"""


def page() -> str:
    return "\n".join([HEAD, *_contents(), *(line for group in GROUPS for line in _group(group))]) + "\n"


def _contents() -> Iterator[str]:
    for title, commands in GROUPS.items():
        links = ", ".join(f"[{name}](#felixlite-{name})" for name in commands)
        yield f"- {title}: {links}"


def _group(title: str) -> Iterator[str]:
    root = click.Context(felixlite, info_name="felixlite", obj=Session())
    for name in GROUPS[title]:
        command = felixlite.get_command(root, name)
        if command is not None:
            yield from _command(command, click.Context(command, parent=root, info_name=name))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    """The command, and those below it."""
    yield f"\n## {ctx.command_path}\n"
    yield from _words(command)
    pieces = " ".join(command.collect_usage_pieces(ctx))
    yield f"\n    {ctx.command_path} {pieces}".rstrip()
    records = [record for param in command.get_params(ctx) if (record := param.get_help_record(ctx))]
    if any(names for names, _ in records if names != "-h, --help"):
        yield "\n| option | |\n|---|---|"
        yield from (f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records if "--help" not in names)
    if command.epilog:
        yield from ("", "```", *inspect.cleandoc(command.epilog).replace("\b\n", "").splitlines(), "```")
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None and not found.hidden:
                yield from _command(found, click.Context(found, parent=ctx, info_name=name))


def _words(command: click.Command) -> Iterator[str]:
    """The help: prose as prose, and what follows a \\b, the examples, as they are."""
    prose, *examples = inspect.cleandoc(command.help or "").split("\b\n")
    yield prose.strip()
    for each in examples:
        block, _, rest = each.partition("\n\n")
        yield from ("", "```", block.rstrip(), "```")
        if rest.strip():
            yield f"\n{rest.strip()}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
