"""NAT rules of other programs that would rewrite the source of what one pod sends to another. Pure.

Docker's default rule masquerades whatever leaves a bridge's range by another interface; when that range covers a pool,
pods lose their addresses, and with them every policy that knows them.  `status` and `doctor` show what is found here;
the setting keepPodAddresses makes the NAT chain that comes first (ours) take such connections out of their reach.
"""

import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise

from felixlite.addresses import Prefix

_REWRITES = ("MASQUERADE", "SNAT")


def rewriting(saved: str, pools: Iterable[Prefix]) -> Iterator[str]:
    """The rules in a listing of iptables-save that may change the source between two addresses of the pools."""
    inside = tuple(pools)
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table == "nat" and line.startswith("-A ") and "fl-" not in line and _may_rewrite(line, inside):
            yield line


def _may_rewrite(line: str, pools: tuple[Prefix, ...]) -> bool:
    words = shlex.split(line)
    if not any(target in _REWRITES for target in _after(words, "-j", "-g")) or "--mark" in words:
        return False  # who marks what he masquerades (kube-proxy) chooses connections himself
    return any(_admits(words, "-s", pool) and _admits(words, "-d", pool) for pool in pools)


def _after(words: list[str], *options: str) -> list[str]:
    return [value for word, value in pairwise(words) if word in options]


def _admits(words: list[str], option: str, pool: Prefix) -> bool:
    """Whether some address of the pool passes this match of the rule."""
    if option not in words:
        return True
    at = words.index(option)
    try:
        net = Prefix.parse(words[at + 1])
    except ValueError:
        return True
    inverted = at > 0 and words[at - 1] == "!"
    return not net.covers(pool) if inverted else net.overlaps(pool)
