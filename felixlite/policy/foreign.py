"""What other programs' NAT on this host does to pods, for `status`: asks iptables in both flavours, changes nothing."""

from collections.abc import Collection, Iterator

from felixlite.addresses import Prefix
from felixlite.policy import ipset
from felixlite.policy.apart import Refused
from felixlite.policy.nat import rewriting

_PROGRAMS = {4: ("iptables-legacy-save", "iptables-nft-save"), 6: ("ip6tables-legacy-save", "ip6tables-nft-save")}


def rewriting_rules(pools: Collection[Prefix]) -> Iterator[str]:
    """Rules that would change the source of what one pod sends to another."""
    for family, programs in _PROGRAMS.items():
        inside = [pool for pool in pools if pool.family == family]
        for program in programs if inside else ():
            yield from (f"{program.removesuffix('-save')} {rule}" for rule in rewriting(_saved(program), inside))


def _saved(program: str) -> str:
    try:
        return ipset.run([program])
    except Refused:  # a host without the program, or a kernel without its tables, has no such rules
        return ""
