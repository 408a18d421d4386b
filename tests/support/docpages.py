"""The commands in the documentation, and what each block says about its being run.

A line `<!-- run -->` before a block: a test runs its commands on node n1 of a lab (tests/lab/test_docs.py).  More words:

    <!-- run, but not: agent, edit -->       lines with these words are left out
    <!-- run; says: is a block of n2 -->     the output has these words
    <!-- not run: it changes the AS -->      and why

`<!-- run inline -->` in a page: the commands between backticks are run, too, where they need nothing that only a reader
can know (PLACEHOLDERS are filled in).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"tour.md", "commands.md", "resources.md"}  # generated; the walk has a test of its own
PAGES = [path for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]) if path.name not in ELSEWHERE]
PLACEHOLDERS = {"A": "n1-a", "B": "n2-a", "ADDRESS": "10.244.46.65", "PREFIX": "10.244.46.64/26", "PEER": "10.0.1.1",
                "ROUTER": "10.0.1.1", "NAME": "default-ipv4-ippool", "FILE": "pool.yaml"}  # fmt: skip
_MARK = re.compile(r"<!-- (run|not run)\b(?:, but not: ([^;]*?))?(?:; says: (.*?))?(?:: (.*?))? -->$")
_INLINE = re.compile(r"`(felixlite [a-z][^`\n]*)`")
_COMMAND = re.compile(r"(?:\$ )?((?:felixlite|kubectl|etcdctl) .*?)(?:\s+#.*)?$")


class Block(NamedTuple):
    page: str
    line: int
    mark: str  # "run", "not run" or empty
    commands: tuple[str, ...]
    says: str
    reason: str


def blocks(path: Path) -> Iterator[Block]:
    """Those with commands in them."""
    lines, mark, at = path.read_text().splitlines(), None, 0
    while at < len(lines):
        if found := _MARK.match(lines[at].strip()):
            mark = found
        elif end := _end(lines, at):
            if commands := [m[1] for m in map(_COMMAND.match, map(str.strip, lines[at:end])) if m]:
                verb, without, says, reason = mark.groups() if mark else ("", None, None, None)
                left_out = [word.strip() for word in (without or "").split(",") if word.strip()]
                kept = tuple(c for c in commands if not any(word in c for word in left_out))
                yield Block(path.name, at + 1, verb, kept, says or "", reason or "")
            mark, at = None, end
            continue
        elif lines[at].strip():
            mark = None
        at += 1


def _end(lines: list[str], at: int) -> int:
    """Where a block that begins at this line ends; 0: none begins here."""
    if lines[at].lstrip().startswith("```"):
        return next((n + 1 for n in range(at + 1, len(lines)) if lines[n].lstrip().startswith("```")), len(lines))
    if lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip() or _MARK.match(lines[at - 1].strip())):
        return next(
            (n for n in range(at, len(lines)) if lines[n].strip() and not lines[n].startswith("    ")), len(lines)
        )
    return 0


def inline(path: Path) -> list[str]:
    """The commands between backticks of a page that asks for it, each once, with its placeholders filled in."""
    text = path.read_text()
    if "<!-- run inline -->" not in text:
        return []
    words = re.compile(r"\b[A-Z]{1,8}\b")
    filled = [words.sub(lambda m: PLACEHOLDERS.get(m[0], m[0]), found) for found in _INLINE.findall(text)]
    return [command for command in dict.fromkeys(filled) if not words.search(command)]
