"""What `iptables-save` shows of ours, as rows again, and whether our jumps stand where they should. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from felixlite.model.policy import Direction
from felixlite.policy import rows
from felixlite.policy.counting import Counted, Counts
from felixlite.policy.iptables_text import PREFIX, RENDERING
from felixlite.policy.rows import Chained, Dispatch, Key, Row


class Hook(NamedTuple):
    table: str
    chain: str  # the kernel's
    target: str  # ours
    first: bool  # of the chain, or else the last


def hooks(*, insert: bool, behind_ipvs: bool) -> tuple[Hook, ...]:
    return (
        Hook("raw", "PREROUTING", "fl-PREROUTING", insert),
        Hook("filter", "INPUT", "fl-INPUT", insert),
        Hook("filter", "FORWARD", "fl-FORWARD", insert),
        Hook("filter", "FORWARD", "fl-accept", False),
        Hook("nat", "POSTROUTING", "fl-POSTROUTING", insert),
        *([BEHIND_IPVS] if behind_ipvs else []),
    )


BEHIND_IPVS = Hook("filter", "OUTPUT", "fl-OUTPUT", True)  # in whatever mode: who comes before us there is not judged


GATE_CHAINS = frozenset(
    f"fl-{name}"
    for name in (
        *(
            "PREROUTING",
            "own-source",
            "FORWARD",
            "accept",
            "INPUT",
            "to-host",
            "from-pods",
            "to-pods",
            "allow",
            "pass",
            "deny",
            "OUTPUT",
            "from-pod-to-service",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Saved:
    rows: Mapping[Key, Row]
    chains: Mapping[Key, tuple[tuple[str, str], ...]]  # (table, chain) of each row
    misplaced: tuple[Hook, ...] = ()
    hooked: tuple[Hook, ...] = ()  # jumps that there are, rightly placed or not


_RULE = re.compile(r"-A (\S+) (.*)")
_COMMENT = re.compile(rf'--comment "?fl{RENDERING}:([^:" ]+):(\d+)(\.?)"?(?: |$)')
_DISPATCHED = re.compile(r"-[ios] (\S+?)(?:/32|/128)? .*-g fl-([ft]w-\S+)")
_TARGET = re.compile(r"-[jg] (fl-\S+)")


def chain_key(chain: str) -> Key | None:
    name = chain.removeprefix(PREFIX)
    if chain in GATE_CHAINS:
        return rows.GATES
    if chain == "fl-POSTROUTING":
        return rows.NAT
    if name == "from-workload" or name.startswith("fd-"):
        return rows.FROM_WORKLOADS
    if name == rows.FROM_SENDERS.name:
        return rows.FROM_SENDERS
    if name == "to-workload" or name.startswith("td-"):
        return rows.TO_WORKLOADS
    if name.startswith(("fw-", "tw-")):
        return Key("endpoint", name)
    if name.startswith(("pi-", "po-")):
        return Key("policy", name)
    return Key("profile", name) if name.startswith(("pri-", "pro-")) else None


def saved(text: str, *, insert: bool) -> Saved:
    rules: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            rules.setdefault((table, line[1:].split()[0]), [])
        elif found := _RULE.match(line):
            rules.setdefault((table, found[1]), []).append(found[2])
    names: dict[Key, list[tuple[str, str]]] = {}
    for where in rules:
        key = chain_key(where[1]) if where[1].startswith(PREFIX) else None
        if key:
            names.setdefault(key, []).append(where)
    wanted = hooks(insert=insert, behind_ipvs=("filter", BEHIND_IPVS.target) in rules)
    misplaced = tuple(hook for hook in wanted if not _stands(hook, rules))
    found_rows = {key: _row(key, [rules[where] for where in places]) for key, places in names.items()}
    for hook in misplaced:  # whoever is written again is hooked again
        owner = rows.NAT if hook.table == "nat" else rows.GATES
        if owner in found_rows:
            found_rows[owner] = Chained("not hooked in")
    return Saved(
        found_rows, {k: tuple(v) for k, v in names.items()}, misplaced, tuple(_present({*wanted, BEHIND_IPVS}, rules))
    )


_COUNTED = re.compile(r"\[(\d+):(\d+)\] -A fl-(\S+) (.*)")


def counts(text: str) -> Counts:
    """What the rules of each of our chains have counted, from `iptables-save -c`; chains without our prefix."""
    found: dict[str, list[Counted]] = {}
    for packets, octets, chain, rule in _COUNTED.findall(text):
        found.setdefault(chain, []).append(Counted(int(packets), int(octets), _target(rule) == "fl-deny"))
    return found


def _stands(hook: Hook, rules: Mapping[tuple[str, str], list[str]]) -> bool:
    there = rules.get((hook.table, hook.chain), [])
    jumps = [at for at, rule in enumerate(there) if _target(rule) == hook.target]
    place = 0 if hook.first else len(there) - 1
    if hook.target == "fl-accept" or hook.first:
        return jumps == [place]
    return len(jumps) == 1  # chainInsertMode Append: where it once was put


def _present(wanted: Iterable[Hook], rules: Mapping[tuple[str, str], list[str]]) -> Iterator[Hook]:
    """Every jump of ours that there is, as often as there is one."""
    for hook in wanted:
        yield from (hook for rule in rules.get((hook.table, hook.chain), []) if _target(rule) == hook.target)


def _target(rule: str) -> str:
    found = _TARGET.search(rule)
    return found[1] if found else ""


def _row(key: Key, chains: list[list[str]]) -> Row:
    digest = _digest(chains)
    if key.kind != "dispatch":
        return Chained(digest)
    direction = Direction.INGRESS if key == rows.TO_WORKLOADS else Direction.EGRESS
    pairs = frozenset((m[1], m[2]) for rules in chains for rule in rules if (m := _DISPATCHED.search(rule)))
    whole = digest == rows.digest(sorted(pairs))
    return Dispatch(direction, pairs if whole else frozenset({("?", "?")}))


def _digest(chains: list[list[str]]) -> str:
    """The digest that the comments of a row's rules agree on, if the series is whole."""
    series: list[tuple[int, str, str]] = []
    for rules in chains:
        numbers = []
        for rule in rules:
            found = _COMMENT.search(rule)
            if not found:
                return "broken"
            numbers.append(int(found[2]))
            series.append((int(found[2]), found[1], found[3]))
        if numbers != sorted(numbers):
            return "broken"
    series.sort()
    ends = [at for at, (_, _, end) in enumerate(series) if end]
    digests = {digest for _, digest, _ in series}
    if [n for n, _, _ in series] != list(range(len(series))) or len(digests) != 1 or ends != [len(series) - 1]:
        return "broken"
    return digests.pop()
