"""Text of YAML or JSON to values and back, for the command's files and for the store of files.

YAML as Kubernetes reads it: 65000:100 is a text and not a number to the base of 60, a date is a text, a key that is
given twice is an error.
"""

import re
from contextlib import suppress
from typing import Any

import orjson
import yaml

from felixlite.errors import FelixliteError

MERGE = "tag:yaml.org,2002:merge"

_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]  # the C one where there is one
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own way


class _Dumper(_SafeDumper):  # type: ignore[misc, valid-type]
    """Quotes whatever this loader or an older one would take for something else than a text."""


_FORMS = (
    (MERGE, r"<<", ["<"]),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "tag:yaml.org,2002:bool",
        r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",
        list("tTfFyYnNoO"),
    ),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN)",
        list("-+0123456789."),
    ),
)
for _tag, _form, _first in _FORMS:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_tag, re.compile(rf"(?:{_form})\Z"), _first)


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.tag == MERGE:
            continue
        name = loader.construct_object(key, deep=True)
        if not isinstance(name, str | int | float | bool):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
        seen.add(name)
    loader.flatten_mapping(node)
    return {str(loader.construct_object(k, deep=True)): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def values(text: str, title: str) -> list[Any]:
    """The values in a text of YAML or JSON, which is quicker to read as such."""
    try:
        if text.lstrip().startswith(("{", "[")):
            with suppress(orjson.JSONDecodeError):  # YAML in flow style begins like that as well
                return [orjson.loads(text)]
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise FelixliteError(f"{title}{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FelixliteError(f"{title}: is neither YAML nor JSON: {str(error).splitlines()[0]}") from None


def as_yaml(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)
