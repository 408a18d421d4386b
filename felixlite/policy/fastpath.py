"""The fast path: which flows of pods the kernel may forward past its hooks, and how nftables spells that. Pure.

One table for both families, `inet felixlite-flows`, with a flowtable of devices and a chain that puts flows into it.  The
chain comes last in the forward hook, so whatever reaches it was accepted by every program's rules.  Of that it takes TCP
and UDP of pods in connections that were answered and are known to last, and only where the way back is the way that the
packet came: the kernel looks the way back up by the interface, and where another one is right (one node of two has
changed its route already, pools of different modes) it would send everything there into the void.

A flow in the flowtable is not asked again before its route changes, its device goes or it ends; policy is about new
connections, so nothing is let through that was not before.  docs/adr/0030-policy.md has what was tried.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from felixlite.policy.nftables_listing import digest_of
from felixlite.policy.nftables_text import ChainText, commented
from felixlite.policy.rows import digest

NAME = "fast path"  # of the table, to the reconciler and to people
TABLE = "felixlite-flows"
WHERE = f"inet {TABLE}"
FLOWTABLE = "pods"
MOST_DEVICES = 200  # in one message; the kernel takes 256 (NFT_NETDEVICE_MAX)

_TAKEN = "ct state established ct status assured meta l4proto { tcp, udp } fib saddr . mark . iif oif != 0"


class Key(NamedTuple):
    kind: Literal["rules", "device"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


RULES = Key("rules", FLOWTABLE)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which packets are looked at. Read from the kernel they have no interfaces."""

    digest: str
    interfaces: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"flows of {', '.join(f'{name}*' for name in self.interfaces)}" if self.interfaces else self.digest


@dataclass(frozen=True, slots=True)
class Device:
    """Being there is all there is to it: what arrives by it is looked up in the flowtable first."""

    def __str__(self) -> str:
        return ""


Row = Rules | Device
Rows = Mapping[Key, Row]


def fast_path(interfaces: tuple[str, ...], devices: Iterable[str], links: Collection[str]) -> dict[Key, Row]:
    """`interfaces`: prefixes of pods' ones; of the devices those that are there, for the kernel takes no others."""
    rules = Rules(digest((interfaces, *chains(interfaces).items())), interfaces)
    return {RULES: rules, **{Key("device", name): Device() for name in devices if name in links}}


# -- as text -----------------------------------------------------------------------------------------------------------


def chains(interfaces: Iterable[str]) -> dict[str, ChainText]:
    sides = [f'{side} "{prefix}*" goto established' for prefix in interfaces for side in ("iifname", "oifname")]
    return {
        "forwarded": ChainText(sides, "type filter hook forward priority 1000;"),
        "established": ChainText([f"{_TAKEN} flow add @{FLOWTABLE}"]),
    }


def made_anew(rules: Rules, devices: Collection[str]) -> Iterator[str]:
    """The whole table, in place of what may be there; running flows come back with their next packets."""
    texts = chains(rules.interfaces)
    commented(texts, rules.digest)
    yield f"add table {WHERE}"
    yield f"delete table {WHERE}"
    yield f"table {WHERE} {{"
    yield f"\tflowtable {FLOWTABLE} {{ hook ingress priority filter; }}"
    for name, chain in texts.items():
        yield f"\tchain {name} {{ {chain.base and chain.base + ' policy accept;'}"
        yield from (f"\t\t{rule}" for rule in chain.rules)
        yield "\t}"
    yield "}"
    yield from devices_text("add", devices)


def devices_text(verb: Literal["add", "delete"], devices: Collection[str]) -> Iterator[str]:
    names = [f'"{name}"' for name in sorted(devices)]
    for at in range(0, len(names), MOST_DEVICES):
        some = ", ".join(names[at : at + MOST_DEVICES])
        yield f"{verb} flowtable {WHERE} {FLOWTABLE} {{ hook ingress priority filter; devices = {{ {some} }}; }}"


def trial() -> str:
    """What a kernel that has all of it takes, under a name of its own; it goes again in the same transaction."""
    lines = [*made_anew(Rules("trial", ("cali",)), ("lo",)), f"delete table {WHERE}"]
    return "\n".join(lines).replace(TABLE, f"{TABLE}-trial")


# -- as `nft list table` shows it --------------------------------------------------------------------------------------

_CHAIN = re.compile(r"^\tchain (\S+) \{\n(.*?)^\t\}", re.MULTILINE | re.DOTALL)
_DEVICES = re.compile(r"devices = \{([^}]*)\}")


def listed(text: str) -> dict[Key, Row]:
    """A table of our name is ours, whatever is left in it."""
    bodies = {name: body.splitlines() for name, body in _CHAIN.findall(text)}
    rules = [line for body in bodies.values() for line in body if not line.strip().startswith("type ")]
    found: dict[Key, Row] = {RULES: Rules(digest_of(rules) if [*bodies] == [*chains(())] else "broken")}
    for names in _DEVICES.findall(text):
        found.update((Key("device", name), Device()) for word in names.split(",") if (name := word.strip(' \t\n"')))
    return found
