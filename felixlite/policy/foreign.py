"""What other programs' NAT on this host does to pods, for `status`: asks iptables in both flavours and nftables, and
changes nothing.
"""

from collections.abc import Collection

from felixlite.addresses import Prefix
from felixlite.policy import ipset, nat, nat_nftables
from felixlite.policy.apart import Refused
from felixlite.policy.nftables import Ruleset

_PROGRAMS = {4: ("iptables-legacy-save", "iptables-nft-save"), 6: ("ip6tables-legacy-save", "ip6tables-nft-save")}
_NAT_TABLES = {"iptables-nft-save": "ip nat", "ip6tables-nft-save": "ip6 nat"}


def rewriting_rules(pools: Collection[Prefix]) -> list[str]:
    """Rules that would change the source of what one pod sends to another, in this thread's network namespace."""
    found: list[str] = []
    judged: list[str] = []  # tables of nftables that iptables-nft understands: they are its own
    for family, programs in _PROGRAMS.items():
        inside = [pool for pool in pools if pool.family == family]
        for program in programs if inside else ():
            listing = _saved(program)
            judged += [_NAT_TABLES[program]] if "*nat" in listing and program in _NAT_TABLES else []
            found += (f"{program.removesuffix('-save')} {rule}" for rule in nat.rewriting(listing, inside))
    return [*found, *nat_nftables.rewriting(_ruleset(), pools, judged)]


def _saved(program: str) -> str:
    try:
        return ipset.run([program])
    except Refused:  # a host without the program, or a kernel without its tables, has no such rules
        return ""


def _ruleset() -> str:
    try:
        ruleset = Ruleset()
    except OSError:  # no libnftables here: what nftables holds was not written by this host's tools
        return ""
    try:
        return ruleset.run("list ruleset")
    except Refused:
        return ""
    finally:
        ruleset.close()
