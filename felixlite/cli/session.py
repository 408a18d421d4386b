"""What the commands share: which store, whether anybody looks at a terminal, how errors end. Imports little."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from felixlite.datastore.store import Store

ENVIRONMENT = "FELIXLITE_STORE"
DEFAULT_STORE = "file:///var/lib/felixlite/store"
_F = TypeVar("_F", bound=Callable[..., Any])


def _connect(url: str) -> "Store":
    from felixlite.datastore import connect

    return connect(url)


class Session:
    """One run of the command."""

    def __init__(self, connect: "Callable[[str], Store]" = _connect, url: str = "") -> None:
        self.url = url or os.environ.get(ENVIRONMENT) or DEFAULT_STORE
        self.error_code = 1
        self._connect = connect
        self._store: Store | None = None

    @property
    def store(self) -> "Store":
        if self._store is None:
            self._store = self._connect(self.url)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def is_terminal(self) -> bool:
        return sys.stdout.isatty()

    def warn(self, message: str) -> None:
        click.echo(f"warning: {message}", err=True)


def store_option(command: _F) -> _F:
    """--store behind the command's name as well as before it."""

    def chosen(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value:
            ctx.obj.url = value

    return click.option(
        "--store",
        metavar="URL",
        expose_value=False,
        callback=chosen,
        help="etcd://HOST:PORT, file://DIR, kubernetes://; else $FELIXLITE_STORE.",
    )(command)


def namespace_option(command: _F) -> _F:
    return click.option("-n", "--namespace", default="", help="The namespace of namespaced resources; else `default`.")(
        command
    )


def file_options(command: _F) -> _F:
    """-f and -R; what they name is read with felixlite.cli.files."""
    recursive = click.option("-R", "--recursive", is_flag=True, help="Also the folders in a folder.")
    files = click.option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="FILE",
        help="A file of YAML or JSON, a folder of them, or - for stdin.",
    )
    return recursive(files(command))
