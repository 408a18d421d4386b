"""--name, which every verb of `felixlite lab` has."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def lab_name(command: _F) -> _F:
    what = "Which lab; several may be up side by side."
    return click.option(
        "--name", default="lab", envvar="FELIXLITE_LAB", show_envvar=True, show_default=True, help=what
    )(command)
