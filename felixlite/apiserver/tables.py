"""Objects as rows, for `kubectl get`: the columns of the kind, then Age. Pure; the time is given."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from felixlite.apiserver.catalogue import Served
from felixlite.model.kind import Printer

Document = dict[str, Any]
NAME = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
AGE = Printer("Age", ".metadata.creationTimestamp", "date")
_STEP = re.compile(r"\.((?:\\.|[^.\[\\])+)|\[\?\(@\.(\w+)==['\"]([^'\"]*)['\"]\)\]|\[(\d+|\*)\]")


def table(
    served: Served, objects: Iterable[Mapping[str, Any]], now: datetime, include: str, metadata: Document
) -> Document:
    """`include`: how much of the object comes with its row: Metadata, Object or None."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns(served),
        "rows": [row(served, found, now, include) for found in objects],
    }


def columns(served: Served) -> list[Document]:
    return [NAME, *(_column(printer) for printer in (*served.printer, AGE))]


def _column(printer: Printer) -> Document:
    type_ = {"count": "integer"}.get(printer.type, printer.type)
    type_ = type_ if type_ in ("boolean", "integer", "number") else "string"
    return {"name": printer.title, "type": type_, "format": "", "description": "", "priority": printer.priority}


def row(served: Served, found: Mapping[str, Any], now: datetime, include: str) -> Document:
    cells = [found["metadata"]["name"], *(cell(found, printer, now) for printer in (*served.printer, AGE))]
    shown: Document = {"cells": cells}
    if include == "Object":
        shown["object"] = found
    elif include != "None":
        shown["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": found["metadata"],
        }
    return shown


def cell(found: Mapping[str, Any], printer: Printer, now: datetime) -> object:
    value = at(found, printer.path)
    if printer.type == "date":
        return age(value, now)
    if shown := _SHOWN.get(printer.type):
        return shown(value)
    if value is None or value == "":
        return "" if printer.type == "string" else None
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return ",".join(f"{name}={what}" for name, what in value.items()) if isinstance(value, Mapping) else str(value)


def selector(value: object) -> str:
    """A LabelSelector in the words of `kubectl get -l`."""
    given = value if isinstance(value, Mapping) else {}
    parts = [f"{name}={what}" for name, what in sorted((given.get("matchLabels") or {}).items())]
    parts += [_requirement(one) for one in given.get("matchExpressions") or () if isinstance(one, Mapping)]
    return ",".join(parts) or "<none>"


def _requirement(one: Mapping[str, Any]) -> str:
    key, values = one.get("key", ""), ",".join(map(str, one.get("values") or ()))
    words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "DoesNotExist": f"!{key}"}
    return words.get(str(one.get("operator")), str(key))


def ports(value: object) -> str:
    """Of a Service: 80/TCP,443:30443/TCP."""
    given = [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    outside = [f":{one['nodePort']}" if one.get("nodePort") else "" for one in given]
    found = [
        f"{one.get('port')}{node}/{one.get('protocol') or 'TCP'}" for one, node in zip(given, outside, strict=True)
    ]
    return ",".join(found) or "<none>"


def _count(value: object) -> int:
    return len(value) if isinstance(value, Mapping | list) else 0


_SHOWN = {"selector": selector, "ports": ports, "count": _count}


def at(found: Any, path: str) -> Any:
    r"""The part of JSONPath that columns use: .a.b\.c, [0], [?(@.type=='Ready')]."""
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        if step is None:
            raise ValueError(f"{path!r} is no path of a column, such as .spec.cidr")
        place = step.end()
        name, key, wanted, index = step.groups()
        if name is not None:
            found = found.get(re.sub(r"\\(.)", r"\1", name)) if isinstance(found, Mapping) else None
        elif not isinstance(found, list):
            found = None
        elif key is not None:
            found = next((one for one in found if isinstance(one, Mapping) and one.get(key) == wanted), None)
        elif index != "*":
            found = found[int(index)] if int(index) < len(found) else None
    return found


def age(birth: object, now: datetime) -> str:
    """As kubectl counts: 45s, 7m30s, 3h5m, 4d2h, 12d, 2y40d."""
    try:
        seconds = int((now - datetime.fromisoformat(str(birth))).total_seconds())
    except (ValueError, TypeError):
        return "<unknown>"
    seconds = max(seconds, 0)
    for most, big, small in _SPANS:
        if seconds < most:
            whole, rest = divmod(seconds, _SECONDS[big])
            part = rest // _SECONDS[small] if small else 0
            return f"{whole}{big}{part}{small}" if part else f"{whole}{big}"
    years, rest = divmod(seconds, _SECONDS["y"])
    return f"{years}y{rest // _SECONDS['d']}d" if years < 8 and rest >= _SECONDS["d"] else f"{years}y"


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_SPANS = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (48 * 3600, "h", ""),
    (8 * 86400, "d", "h"),
    (2 * 365 * 86400, "d", ""),
)
