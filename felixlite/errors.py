"""What can go wrong, in words for the person who has to act.

Every error that reaches a user names the object, the field, the value, and what would be right.
Nothing here knows about sockets, files or the kernel; every layer may raise these.

    FelixliteError
    ├── Rejected            input that does not validate; carries all of its Problems
    ├── Misconfigured       the process cannot run as asked (flag, environment, permission, port)
    └── StoreError
        ├── Unreachable     nobody answers, or not in time: try again later
        │   └── Away        there is no connection at all: asking again soon costs nobody anything
        ├── Denied          the store refuses us (certificate, token, password, missing right)
        ├── NotFound        no such object
        ├── AlreadyExists   create met an object
        ├── Conflict        compare-and-swap lost: read again and retry
        └── Compacted       the revision to watch from is gone: list again
"""

from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_VALUE = 120


class FelixliteError(Exception):
    """Base of all errors that are meant for a user: str() is one clear sentence."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one object."""

    kind: str
    name: str
    field: str
    value: object
    remedy: str

    def __str__(self) -> str:
        where = f"{self.kind} {self.name or '(no name)'}"
        if not self.field:
            return f"{where}: {self.remedy}"
        return f"{where}: {self.field}: {_short(self.value)}: {self.remedy}"


def _short(value: object) -> str:
    """One line that fits on a screen."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


class Rejected(FelixliteError):
    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Misconfigured(FelixliteError):
    pass


class StoreError(FelixliteError):
    pass


class Unreachable(StoreError):
    pass


class Away(Unreachable):
    pass


class Denied(StoreError):
    pass


class NotFound(StoreError):
    pass


class AlreadyExists(StoreError):
    pass


class Conflict(StoreError):
    pass


class Compacted(StoreError):
    pass
