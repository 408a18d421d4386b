"""The selector language: `app == 'web' && !has(canary)`, parsed once into closures.

    or    := and ("||" and)*
    and   := not ("&&" not)*
    not   := "!" not | atom
    atom  := "(" or ")" | "all()" | "global()" | "has(" label ")"
           | label ("==" | "!=" | "contains" | "starts with" | "ends with") string
           | label ("in" | "not in") "{" string ("," string)* "}"

Equal selectors print equally (`str`), whatever their spelling, and parse(str(x)) == x: the printed form is a selector's
identity.  Nothing but a SelectorError leaves the parser, and it points at the column.  Reference 14.1.

A selector answers about one set of labels (`matches`) and, at a fraction of the time each, about all that are in a
LabelIndex (model/labels.py): there it is a handful of operations on sets of rows, written as the bits of integers.
Its `needs` hold what every match has, as far as it is easy to see: an index of selectors files it under one of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]
Needs = tuple[tuple[str, frozenset[str] | None], ...]  # (label, its possible values; None: any)
Rows = int  # a set of rows of an index: bit n stands for row n


class Index(Protocol):
    """Many sets of labels, one a row."""

    @property
    def every(self) -> Rows: ...

    def having(self, label: str) -> Rows: ...

    def equal(self, label: str, value: str) -> Rows: ...

    def where(self, label: str, test: Callable[[str], bool]) -> Rows: ...


Find = Callable[[Index], Rows]

NAMESPACE = "projectcalico.org/namespace"
LONGEST_LABEL = 512
MAX_DEPTH = 100  # parentheses and "!" nest no deeper; keeps the parser off the recursion limit


class SelectorError(ValueError):
    def __init__(self, text: str, column: int, expected: str) -> None:
        self.text, self.column, self.expected = text, column, expected
        super().__init__(f"{text!r}: at column {column + 1}: expected {expected}")


@dataclass(frozen=True, slots=True)
class Selector:
    """Compares, hashes and prints by its canonical text."""

    text: str
    matches: Test = field(compare=False, repr=False)
    find: Find = field(compare=False, repr=False)
    mentions_global: bool = field(default=False, compare=False, repr=False)
    needs: Needs = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash(self.text)  # a text remembers its hash, and selectors are keys everywhere


class _Node(NamedTuple):
    text: str
    test: Test
    find: Find
    binds: int = 2  # how tightly: 0 or, 1 and, 2 not and atoms
    needs: Needs = ()


class _Token(NamedTuple):
    kind: str
    value: str
    column: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)|(?P<string>"[^"]*"|'[^']*')|(?P<op>\|\||&&|==|!=|[!(){},])|(?P<word>[A-Za-z0-9_./-]+)""",
    re.ASCII,
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKENS.match(text, at)
        if not found:
            expected = "a closing quote" if text[at] in "\"'" else "a label, an operator or a quoted string"
            raise SelectorError(text, at, expected)
        kind = found.lastgroup or ""
        if kind != "space":
            yield _Token(kind, found.group(), at)
        at = found.end()
    yield _Token("end", "", len(text))


@lru_cache(maxsize=8192)
def parse(text: str, prefix: str = "") -> Selector:
    """The selector that `text` spells, on labels that start with `prefix`; the empty text is all()."""
    parser = _Parser(text if text.strip() else "all()", prefix)
    node = parser.whole()
    return Selector(node.text, node.test, node.find, parser.mentions_global, node.needs)


def conjunction(selectors: Iterable[Selector]) -> Selector:
    """What all of them select. Equal parts in equal order print equally."""
    parts = tuple(selectors)
    if len(parts) == 1:
        return parts[0]
    test, find = _all(tuple(part.matches for part in parts), tuple(part.find for part in parts))
    text = " && ".join(f"({part})" for part in parts) or "all()"
    needs = tuple(need for part in parts for need in part.needs)
    return Selector(text, test, find, any(part.mentions_global for part in parts), needs)


def one_of(label: str, *values: str) -> Selector:
    """Where the label is one of these values, whatever characters they have: they are never read as a selector."""
    node = _equal(label, values[0]) if len(values) == 1 else _inside(label, frozenset(values))
    return Selector(node.text, node.test, node.find, needs=node.needs)


class _Parser:
    def __init__(self, text: str, prefix: str) -> None:
        self.text = text
        self.prefix = prefix
        self.tokens = list(_tokens(text))
        self.at = 0
        self.depth = 0
        self.mentions_global = False

    # -- moving through the tokens

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def takes(self, value: str) -> bool:
        """True, and past it, when the next token is this operator or word."""
        if self.next.value == value and self.next.kind in ("op", "word"):
            self.at += 1
            return True
        return False

    def need(self, value: str) -> None:
        if not self.takes(value):
            raise self.error(f"{value!r}")

    def error(self, expected: str) -> SelectorError:
        return SelectorError(self.text, self.next.column, expected)

    # -- the grammar

    def whole(self) -> _Node:
        node = self.either()
        if self.next.kind != "end":
            raise self.error("'&&', '||' or the end")
        return node

    def either(self) -> _Node:
        return self.joined("||", 0, self.both)

    def both(self) -> _Node:
        return self.joined("&&", 1, self.inverted)

    def joined(self, operator: str, binds: int, part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        while self.takes(operator):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        text = f" {operator} ".join(f"({p.text})" if p.binds <= binds else p.text for p in parts)
        combined = _any if binds == 0 else _all
        test, find = combined(tuple(p.test for p in parts), tuple(p.find for p in parts))
        needs = _one_of(parts) if binds == 0 else tuple(need for p in parts for need in p.needs)
        return _Node(text, test, find, binds, needs)

    def inverted(self) -> _Node:
        if not self.takes("!"):
            return self.atom()
        self.deeper()
        inner = self.inverted()
        self.depth -= 1
        text = f"!({inner.text})" if inner.binds < 2 else f"!{inner.text}"
        return _Node(text, lambda labels: not inner.test(labels), lambda index: index.every & ~inner.find(index))

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"at most {MAX_DEPTH} nested parentheses and '!'")

    def atom(self) -> _Node:
        if self.takes("("):
            self.deeper()
            inner = self.either()
            self.depth -= 1
            self.need(")")
            return inner
        if self.next.kind != "word":
            raise self.error("a label, 'has(', 'all()', 'global()', '!' or '('")
        token = self.take()
        if self.takes("("):
            return self.call(token)
        return self.comparison(self.label(token))

    def call(self, called: _Token) -> _Node:
        match called.value:
            case "has":
                if self.next.kind != "word":
                    raise self.error("a label")
                label = self.label(self.take())
                self.need(")")
                return _Node(
                    f"has({label})",
                    lambda labels: label in labels,
                    lambda index: index.having(label),
                    needs=((label, None),),
                )
            case "all":
                self.need(")")
                return _Node("all()", lambda _: True, lambda index: index.every)
            case "global":
                self.need(")")
                self.mentions_global = True  # selects what has no namespace
                return _Node(
                    "global()",
                    lambda labels: NAMESPACE not in labels,
                    lambda index: index.every & ~index.having(NAMESPACE),
                )
        raise SelectorError(self.text, called.column, "'has(', 'all()' or 'global()'")

    def label(self, token: _Token) -> str:
        if len(token.value) > LONGEST_LABEL:
            raise SelectorError(self.text, token.column, f"a label of at most {LONGEST_LABEL} characters")
        return self.prefix + token.value

    def comparison(self, label: str) -> _Node:
        if self.takes("=="):
            return _equal(label, self.string())
        if self.takes("!="):
            return _unequal(label, self.string())
        if self.takes("contains"):
            value = self.string()
            return _like(f"{label} contains {_quoted(value)}", label, lambda found: value in found)
        if self.takes("starts"):
            self.need("with")
            value = self.string()
            return _like(f"{label} starts with {_quoted(value)}", label, lambda found: found.startswith(value))
        if self.takes("ends"):
            self.need("with")
            value = self.string()
            return _like(f"{label} ends with {_quoted(value)}", label, lambda found: found.endswith(value))
        if self.takes("not"):
            self.need("in")
            return _outside(label, self.values())
        if self.takes("in"):
            return _inside(label, self.values())
        raise self.error("'==', '!=', 'in', 'not in', 'contains', 'starts with' or 'ends with'")

    def string(self) -> str:
        if self.next.kind != "string":
            raise self.error("a quoted string")
        return self.take().value[1:-1]

    def values(self) -> frozenset[str]:
        self.need("{")
        found = [self.string()]
        while self.takes(","):
            found.append(self.string())
        self.need("}")
        return frozenset(found)


# -- what the parts mean, for one set of labels and for all rows of an index


def _all(tests: tuple[Test, ...], finds: tuple[Find, ...]) -> tuple[Test, Find]:
    def test(labels: Labels) -> bool:
        for one in tests:  # noqa: SIM110  half the time of all() over a generator, and this is what everything waits for
            if not one(labels):
                return False
        return True

    def find(index: Index) -> Rows:
        rows = index.every
        for one in finds:
            rows &= one(index)
        return rows

    return test, find


def _any(tests: tuple[Test, ...], finds: tuple[Find, ...]) -> tuple[Test, Find]:
    def test(labels: Labels) -> bool:
        for one in tests:  # noqa: SIM110  as above
            if one(labels):
                return True
        return False

    def find(index: Index) -> Rows:
        rows = 0
        for one in finds:
            rows |= one(index)
        return rows

    return test, find


def _equal(label: str, value: str) -> _Node:
    return _Node(
        f"{label} == {_quoted(value)}",
        lambda labels: labels.get(label) == value,
        lambda index: index.equal(label, value),
        needs=((label, frozenset({value})),),
    )


def _unequal(label: str, value: str) -> _Node:
    """True as well where the label is absent; so is `not in`."""
    return _Node(
        f"{label} != {_quoted(value)}",
        lambda labels: labels.get(label) != value,
        lambda index: index.every & ~index.equal(label, value),
    )


def _among(label: str, values: frozenset[str]) -> Find:
    def find(index: Index) -> Rows:
        rows = 0
        for value in values:
            rows |= index.equal(label, value)
        return rows

    return find


def _inside(label: str, values: frozenset[str]) -> _Node:
    return _Node(
        f"{label} in {_braced(values)}",
        lambda labels: labels.get(label) in values,
        _among(label, values),
        needs=((label, values),),
    )


def _outside(label: str, values: frozenset[str]) -> _Node:
    among = _among(label, values)
    return _Node(
        f"{label} not in {_braced(values)}",
        lambda labels: labels.get(label) not in values,
        lambda index: index.every & ~among(index),
    )


def _like(text: str, label: str, test: Callable[[str], bool]) -> _Node:
    return _Node(
        text,
        lambda labels: label in labels and test(labels[label]),
        lambda index: index.where(label, test),
        needs=((label, None),),
    )


def _one_of(parts: list[_Node]) -> Needs:
    """What alternatives have in common: one label, with a choice of values if each names its own."""
    choices = [part.needs[0] for part in parts if part.needs]
    labels = {label for label, _ in choices}
    if len(choices) < len(parts) or len(labels) != 1:
        return ()
    known = [values for _, values in choices if values is not None]
    return ((labels.pop(), frozenset().union(*known) if len(known) == len(choices) else None),)


def _quoted(value: str) -> str:
    if "'" not in value:
        return f"'{value}'"
    return repr(value) if '"' in value else f'"{value}"'  # both only from `one_of`; no two values may print equally


def _braced(values: frozenset[str]) -> str:
    return "{" + ", ".join(map(_quoted, sorted(values))) + "}"


ALL = parse("all()")
