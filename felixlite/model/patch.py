"""Changing a document: JSON merge patch (RFC 7396) and JSON patch (RFC 6902). Pure."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any


class PatchError(ValueError):
    """The patch itself is wrong, or does not fit the document; says which operation."""


def merge(document: Any, change: Any) -> Any:
    """RFC 7396: mappings are merged, null takes a member away, everything else replaces."""
    if not isinstance(change, Mapping):
        return deepcopy(change)
    result = dict(document) if isinstance(document, Mapping) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def apply(document: Any, operations: Any) -> Any:
    """RFC 6902: all operations in order, or PatchError and none."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    result = deepcopy(document)
    for number, operation in enumerate(operations):
        try:
            result = _one(result, operation)
        except PatchError as error:
            raise PatchError(f"operation {number}: {error}") from None
    return result


def _one(document: Any, operation: Any) -> Any:
    if not isinstance(operation, Mapping):
        raise PatchError("must be a mapping with op and path")
    name = operation.get("op")
    if name not in _OPERATIONS:
        raise PatchError(f"op {name!r} must be one of {', '.join(_OPERATIONS)}")
    return _OPERATIONS[str(name)](document, operation)


def _member(operation: Mapping[str, Any], name: str) -> Any:
    if name not in operation:
        raise PatchError(f"{name!r} is required")
    return operation[name]


def _steps(pointer: object) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise PatchError(f"{pointer!r} is no JSON pointer; it begins with /")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _index(container: list[Any], step: str, pointer: object, *, end: int) -> int:
    if not step.isdecimal() or (step != "0" and step.startswith("0")) or int(step) >= end:
        raise PatchError(f"{pointer}: {step!r} is no place in a list of {len(container)}")
    return int(step)


def _found(document: Any, steps: list[str], pointer: object) -> Any:
    for step in steps:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step, pointer, end=len(document))]
        else:
            raise PatchError(f"{pointer}: there is no {step!r}")
    return document


def _add(document: Any, operation: Mapping[str, Any]) -> Any:
    return _put(document, _member(operation, "path"), deepcopy(_member(operation, "value")))


def _put(document: Any, pointer: Any, value: Any) -> Any:
    steps = _steps(pointer)
    if not steps:
        return value
    parent = _found(document, steps[:-1], pointer)
    if isinstance(parent, list):
        at = len(parent) if steps[-1] == "-" else _index(parent, steps[-1], pointer, end=len(parent) + 1)
        parent.insert(at, value)
    elif isinstance(parent, dict):
        parent[steps[-1]] = value
    else:
        raise PatchError(f"{pointer}: its parent is neither a mapping nor a list")
    return document


def _remove(document: Any, operation: Mapping[str, Any]) -> Any:
    pointer = _member(operation, "path")
    steps = _steps(pointer)
    if not steps:
        raise PatchError("the whole document cannot be removed")
    _found(document, steps, pointer)
    parent = _found(document, steps[:-1], pointer)
    del parent[int(steps[-1]) if isinstance(parent, list) else steps[-1]]
    return document


def _replace(document: Any, operation: Mapping[str, Any]) -> Any:
    pointer, value = _member(operation, "path"), deepcopy(_member(operation, "value"))
    steps = _steps(pointer)
    if not steps:
        return value
    _found(document, steps, pointer)
    parent = _found(document, steps[:-1], pointer)
    parent[int(steps[-1]) if isinstance(parent, list) else steps[-1]] = value
    return document


def _move(document: Any, operation: Mapping[str, Any]) -> Any:
    source, target = _member(operation, "from"), _member(operation, "path")
    if target != source and str(target).startswith(f"{source}/"):
        raise PatchError(f"{source} cannot be moved into itself")
    value = _found(document, _steps(source), source)
    return _put(_remove(document, {"path": source}), target, value)


def _copy(document: Any, operation: Mapping[str, Any]) -> Any:
    source = _member(operation, "from")
    return _put(document, _member(operation, "path"), deepcopy(_found(document, _steps(source), source)))


def _test(document: Any, operation: Mapping[str, Any]) -> Any:
    pointer = _member(operation, "path")
    found, wanted = _found(document, _steps(pointer), pointer), _member(operation, "value")
    if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
        raise PatchError(f"{pointer} is {found!r}, not {wanted!r}")
    return document


_OPERATIONS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
