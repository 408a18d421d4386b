"""The command `felixlite`: a table of commands, each imported only when it is the one that runs.

`felixlite --help` imports click and nothing of ours beyond this file, which keeps it under 150 ms.  Errors that are
meant for a user become one line each on stderr and an exit code; nobody sees a traceback.  A command returns its exit
code, or nothing for 0; errors end with `session.error_code` where 1 means something else.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from felixlite.cli.session import Session


class Command(NamedTuple):
    where: str  # module of felixlite.cli and name in it
    help: str


GROUPS: dict[str, dict[str, Command]] = {
    "Resources": {
        "get": Command("get:get", "Show resources."),
        "apply": Command("write:apply", "Create resources or change them to what files say."),
        "create": Command("write:create", "Create resources that do not exist."),
        "replace": Command("write:replace", "Replace resources that exist."),
        "delete": Command("write:delete", "Delete resources."),
        "patch": Command("change:patch", "Change fields of a resource."),
        "edit": Command("change:edit", "Change a resource in your editor."),
        "label": Command("change:label", "Set or remove labels of a resource."),
        "validate": Command("check:validate", "Check files without a store."),
        "explain": Command(
            "connection:explain", "What a kind and its fields mean; or: may A talk to B, and which rule says so."
        ),
        "diff": Command("check:diff", "What apply would change, object by object."),
    },
    "This node": {
        "agent": Command("agent:agent", "Run this node's agent."),
        "status": Command("agent:status", "How this node is, on one screen."),
        "show": Command("agent:show", "What the agent wants, what differs, its settings, why a route is as it is."),
        "doctor": Command("doctor:doctor", "Look for what is wrong with this node."),
        "plan": Command("agent:plan", "What a change would do on this node, touching nothing."),
    },
    "BGP": {
        "bgp": Command("bgp:bgp", "Sessions, routes, and why a route won or is not announced."),
        "node": Command("bgp:node", "node status: the BGP sessions of this node."),
    },
    "Addresses": {
        "pool": Command("pool:pool", "How far each node is with a changed encapsulation."),
        "ipam": Command("ipam:ipam", "Who has which address, what does not add up, how they are assigned."),
        "controllers": Command("controllers:controllers", "Collect leaked addresses and what deleted nodes left."),
    },
    "Other": {
        "apiserver": Command("apiserver:apiserver", "Serve the store to kubectl, where there is no Kubernetes."),
        "cni": Command("cni:cni", "Install the plugin that container runtimes call, or show its configuration."),
        "lab": Command("lab:lab", "Nodes, routers and pods in network namespaces of this machine."),
        "completion": Command("version:completion", "The script that makes a shell complete felixlite's words."),
        "version": Command("version:version", "Versions of the command, the agent's libraries and the cluster."),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


class Table(click.Group):
    """A group whose members are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            ctx.fail(f"there is no command {cmd_name!r}{_meant(cmd_name)}")
        module, _, name = COMMANDS[cmd_name].where.partition(":")
        found: click.Command = getattr(import_module(f"felixlite.cli.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, command.help) for name, command in commands.items()])


def _meant(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


@click.group(
    cls=Table,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Run `felixlite COMMAND --help` for examples.",
)
@click.option(
    "--store", metavar="URL", help="Where the resources are; else $FELIXLITE_STORE. See `felixlite get --help`."
)
@click.pass_obj
def felixlite(session: Session, store: str | None) -> None:
    """Networking of nodes and pods in the style of Calico: addresses, BGP, IPIP, VXLAN, policy."""
    if store:
        session.url = store


def run(arguments: Sequence[str], session: Session) -> int:
    """The exit code of `felixlite ARGUMENTS`."""
    from felixlite.errors import FelixliteError, Misconfigured

    try:
        code = felixlite.main(list(arguments), prog_name="felixlite", obj=session, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        return _fail("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(_explained(error), max(error.exit_code, session.error_code))
    except FelixliteError as error:
        return _fail(str(error), 2 if isinstance(error, Misconfigured) else session.error_code)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _fail(what, session.error_code)
    finally:
        session.close()


def _explained(error: click.ClickException) -> str:
    told = error.format_message().rstrip(".")
    return (
        f"{told}; see `{error.ctx.command_path} --help`" if isinstance(error, click.UsageError) and error.ctx else told
    )


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"felixlite: {line}", err=True)
    return code


def main() -> None:
    try:
        code = run(sys.argv[1:], Session())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains on its way out
        code = 1
    sys.exit(code)
