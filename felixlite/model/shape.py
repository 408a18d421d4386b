"""How a kind of document is described: pydantic for shapes and single values, rules for what fields mean together.

A Model's fields carry the names that users write.  Its rules are methods marked with @rule that yield Faults; each
rule runs by itself, so that one document gives all of its errors at once.  Where a value is wrong or missing, the rules
that look at it stay silent (`_Unknown`): they would only repeat what is said already, or guess.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Location = tuple[str | int, ...]


class Fault(NamedTuple):
    """One thing wrong below a model: `at` is a path such as "icmp.code" or "ingress[3].source"."""

    at: str
    value: object
    remedy: str


Rule = Callable[[Any], Iterable[Fault]]
_M = TypeVar("_M", bound="Model")
_R = TypeVar("_R", bound=Rule)


class Model(BaseModel):
    """Strict: a number is not a string, "true" is not true. Unknown fields are left to `strangers`."""

    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)


def rule(method: _R) -> _R:
    """Marks a method of a Model as one of its rules."""
    method.is_rule = True  # type: ignore[attr-defined]  # a mark, read by _rules alone
    return method


def read(model: type[_M], document: Mapping[str, Any]) -> tuple[_M, list[Fault]]:
    """The document as a model, and everything that is wrong with it. Without faults the model is whole."""
    try:
        found = model.model_validate(document)
    except ValidationError as error:
        faults = [_fault(details) for details in error.errors(include_url=False)]
        found = _salvaged(model, document, {tuple(details["loc"]) for details in error.errors(include_url=False)})
        return found, faults + _broken_rules(found)
    return found, _broken_rules(found)


class Stranger(NamedTuple):
    at: str
    name: str
    known: tuple[str, ...]  # what there is in its place


def strangers(model: type[Model], document: object, at: str = "") -> list[Stranger]:
    """Fields that the model does not know."""
    found: list[Stranger] = []
    _find_strangers(model, document, at, found)
    return found


def _find_strangers(model: type[Model], document: object, at: str, found: list[Stranger]) -> None:
    if not isinstance(document, dict):
        return
    known = _written(model)
    if not known.keys() >= document.keys():
        found += (Stranger(at, str(name), tuple(known)) for name in document.keys() - known.keys())
    for _, key, inner, many in _nested(model):
        if (below := document.get(key)) is None:
            continue
        if not many:
            _find_strangers(inner, below, join(at, key), found)
        elif isinstance(below, list):
            for i, item in enumerate(below):
                _find_strangers(inner, item, f"{join(at, key)}[{i}]", found)


def join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def path(location: Location) -> str:
    """("spec", "ingress", 3, "action") -> spec.ingress[3].action"""
    text = ""
    for step in location:
        text = f"{text}[{step}]" if isinstance(step, int) else join(text, str(step))
    return text


# -- what pydantic says, in our words

_WORDS = {
    "missing": "is required",
    "string_type": "must be a text (put it in quotes)",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def _fault(details: Any) -> Fault:
    limits = details.get("ctx") or {}
    match details["type"]:
        case "literal_error":
            remedy = f"must be {limits['expected']}"
        case "greater_than_equal":
            remedy = f"must be at least {limits['ge']}"
        case "less_than_equal":
            remedy = f"must be at most {limits['le']}"
        case "too_long":
            remedy = f"has {limits['actual_length']} entries; at most {limits['max_length']} are allowed"
        case "string_too_long":
            remedy = f"is longer than {limits['max_length']} characters"
        case "value_error":
            remedy = str(limits["error"])
        case other:
            remedy = _WORDS.get(other, details["msg"])
    value = None if details["type"] == "missing" else details["input"]
    return Fault(path(tuple(details["loc"])), value, remedy)


# -- rules


@cache
def _written(model: type[Model]) -> Mapping[str, str]:
    """As users write a field -> its name here: `from` is `from_`."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


@cache
def _rules(model: type[Model]) -> tuple[Rule, ...]:
    return tuple(
        method
        for name in sorted({n for c in model.__mro__ for n, m in vars(c).items() if getattr(m, "is_rule", False)})
        if callable(method := getattr(model, name))
    )


@cache
def _nested(model: type[Model]) -> tuple[tuple[str, str, type[Model], bool], ...]:
    """The fields that hold models: name, as users write it, class, whether a list of them."""
    found = ((name, key, *_model_in(model.model_fields[name].annotation)) for key, name in _written(model).items())
    return tuple((name, key, inner, many) for name, key, inner, many in found if inner)


@cache
def _ruled(model: type[Model]) -> tuple[tuple[str, str, type[Model], bool], ...]:
    """Those of them that have rules, or hold such that have."""
    return tuple(nested for nested in _nested(model) if _rules(nested[2]) or _ruled(nested[2]))


def _model_in(annotation: Any) -> tuple[type[Model] | None, bool]:
    if isinstance(annotation, type) and not get_origin(annotation):
        return (annotation, False) if issubclass(annotation, Model) else (None, False)
    many = get_origin(annotation) is list
    inner = next((m for m, _ in map(_model_in, get_args(annotation)) if m), None)
    return inner, many or any(m for _, m in map(_model_in, get_args(annotation)))


def _broken_rules(model: Model) -> list[Fault]:
    found: list[Fault] = []
    _find_broken(model, "", found)
    return found


def _find_broken(model: Model, at: str, found: list[Fault]) -> None:
    for check in _rules(type(model)):
        try:
            found += [fault._replace(at=join(at, fault.at) if fault.at else at) for fault in check(model)]
        except _NotKnown:
            continue
    for name, key, _, many in _ruled(type(model)):
        below = getattr(model, name)
        if below is None or below is _UNKNOWN:
            continue
        for i, item in enumerate(below) if many else ((-1, below),):
            if item is not _UNKNOWN:
                _find_broken(item, f"{join(at, key)}[{i}]" if many else join(at, key), found)


# -- what is left of a document of which some values are wrong


class _NotKnown(Exception):
    """A rule asked about a value that is wrong or missing."""


def _ask(*_: object) -> Any:
    raise _NotKnown


class _Unknown:
    """Stands for such a value: whoever looks at it raises _NotKnown."""

    __slots__ = ()
    __getattr__ = __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _ask
    __iter__ = __len__ = __contains__ = __getitem__ = __hash__ = __str__ = __int__ = __add__ = _ask


_UNKNOWN = _Unknown()


def _salvaged(model: type[_M], document: object, wrong: set[Location], at: Location = ()) -> _M:
    """The model with what is right, without looking again at what is `wrong`."""
    given = document if isinstance(document, Mapping) else {}
    written = _written(model)
    values = {
        name: _value(model, name, model.model_fields[name], given[key], wrong, (*at, key))
        for key, name in written.items()
        if key in given
    }
    absent = {n: _UNKNOWN for k, n in written.items() if k not in given and model.model_fields[n].is_required()}
    return model.model_construct(set(values), **values, **absent)


def _value(model: type[Model], name: str, field: FieldInfo, given: Any, wrong: set[Location], here: Location) -> Any:
    touched = [location for location in wrong if location[: len(here)] == here]
    if not touched:
        return _adapter(model, name).validate_python(given, strict=True)
    inner, many = _model_in(field.annotation)
    if inner is None or here in wrong:
        return _UNKNOWN
    if not many:
        return _salvaged(inner, given, wrong, here)
    return [
        _UNKNOWN if (*here, i) in wrong else _salvaged(inner, item, wrong, (*here, i)) for i, item in enumerate(given)
    ]


@cache
def _adapter(model: type[Model], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    return TypeAdapter(
        field.rebuild_annotation(), config=None if _model_in(field.annotation)[0] else model.model_config
    )
