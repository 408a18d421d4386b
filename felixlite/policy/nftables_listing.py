"""What `nft list table` shows of our table, as rows again. Pure.

Chains come back as the digest that the comments of their rules carry; a series of comments that is not whole comes
back as a digest that nobody wants, so that the row is written again.  Sets come back with their members.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from felixlite.addresses import Prefix
from felixlite.model.policy import SCTP, TCP, UDP, UDPLITE, Direction
from felixlite.policy import rows
from felixlite.policy.counting import Counted, Counts
from felixlite.policy.nftables_text import ADDRESS_TYPE, DENY, RENDERING, gate_chains, nat_chains
from felixlite.policy.rows import Chained, Dispatch, IpSet, Key, Member, Nat, Row, ServiceGates, SetKind

_COMMENT = re.compile(rf'comment "fl{RENDERING}:([^:"]+):(\d+)(\.?)"')


def digest_of(series: Iterable[str]) -> str:
    """The digest that a complete series of rules carries; of anything else, a text that is no digest."""
    digest, expected, ended = "", 0, False
    for rule in series:
        found = _COMMENT.search(rule)
        if not found or ended or int(found[2]) != expected or (digest and found[1] != digest):
            return "broken"
        digest, expected, ended = found[1], expected + 1, bool(found[3])
    return digest if ended else "broken"


# -- reading a listing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """One table as `nft list table` shows it."""

    rows: Mapping[Key, Row]
    chains: Mapping[Key, tuple[str, ...]]  # the chains of each row
    stray: tuple[str, ...] = ()  # chains of no row


_GATE_CHAINS = tuple(gate_chains(ServiceGates(()), 4))
_NAT_CHAINS = tuple(nat_chains(Nat(), 4))
_HEADER = re.compile(r"^\t(chain|set|map) (\S+) \{")
_MAP_ENTRY = re.compile(r'"?([^"\s,={}]+)"? : (?:goto|jump) (\S+?)(?=[,\s}]|$)')


def listed(text: str, family: int) -> Listed:
    found: dict[Key, Row] = {}
    series: dict[str, list[str]] = {}
    names: dict[Key, list[str]] = {}
    stray: list[str] = []
    for kind, name, body in _objects(text):
        if kind == "set":
            found[Key("set", name)] = _read_set(" ".join(body), family)
        elif kind == "map":
            key = Key("dispatch", name)
            direction = Direction.INGRESS if key == rows.TO_WORKLOADS else Direction.EGRESS
            found[key] = Dispatch(direction, frozenset(_MAP_ENTRY.findall(" ".join(body))))
        elif row_key := chain_key(name):
            names.setdefault(row_key, []).append(name)
            series[name] = [rule for rule in body if not rule.startswith("type ")]
        else:
            stray.append(name)
    for key, chain_names in names.items():
        chain_names.sort(key=_place)
        found[key] = Chained(digest_of(rule for name in chain_names for rule in series[name]))
    return Listed(found, {key: tuple(chain_names) for key, chain_names in names.items()}, tuple(stray))


_COUNTER = re.compile(r"counter packets (\d+) bytes (\d+)")


def counts(text: str) -> Counts:
    """What the rules of each chain have counted."""
    return {name: [_counted(rule) for rule in body] for kind, name, body in _objects(text) if kind == "chain"}


def _counted(rule: str) -> Counted:
    found = _COUNTER.search(rule)
    packets, octets = found.groups() if found else (0, 0)
    return Counted(int(packets), int(octets), f"goto {DENY} " in rule)


def _place(chain: str) -> int:
    """Where the chain stands among those of its row."""
    if chain in _GATE_CHAINS:
        return _GATE_CHAINS.index(chain)
    return int(chain.partition("/")[2] or 1)


def chain_key(chain: str) -> Key | None:
    """Which row a chain of ours belongs to."""
    name, _, _ = chain.partition("/")
    if name.startswith(("fw-", "tw-")):
        return Key("endpoint", name)
    if name.startswith(("pi-", "po-")):
        return Key("policy", name)
    if name.startswith(("pri-", "pro-")):
        return Key("profile", name)
    if name in _GATE_CHAINS:
        return rows.GATES
    return rows.NAT if name in _NAT_CHAINS else None


def _objects(text: str) -> Iterator[tuple[str, str, list[str]]]:
    kind = name = ""
    body: list[str] = []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            kind, name, body = header[1], header[2], []
        elif line == "\t}" and kind:
            yield kind, name, body
            kind = ""
        elif kind:
            body.append(line.strip())


def _read_set(text: str, family: int) -> IpSet:
    kind = _set_kind(text, family)
    _, _, inside = text.partition("elements = {")
    members = [part.strip() for part in inside.rpartition("}")[0].split(",")]
    try:
        return IpSet(kind, frozenset(_member(kind, member) for member in members if member))
    except ValueError:  # somebody put in what we never do: not equal to anything we want
        return IpSet(kind, frozenset({("?", Prefix(b"", 0))}))


def _set_kind(text: str, family: int) -> SetKind:
    if "ifname" in text:
        return "iface,ip"
    if "ether_addr" in text:
        return "mac,ip"
    if "inet_service" in text:
        return "ip,port"
    return "net" if "flags interval" in text or ADDRESS_TYPE[family] not in text else "ip"


def _member(kind: SetKind, text: str) -> Member:
    parts = text.split(" . ")
    match kind:
        case "iface,ip" | "mac,ip":
            return (parts[0].strip('"'), Prefix.host(ip_address(parts[1])))
        case "ip,port":
            return (Prefix.host(ip_address(parts[0])), _protocol_number(parts[1]), int(parts[2]))
        case _:
            return Prefix.parse(text)


def _protocol_number(text: str) -> int:
    names = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "udplite": UDPLITE}
    return names[text] if text in names else int(text)
