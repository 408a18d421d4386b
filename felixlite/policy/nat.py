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
_WITH_THEMSELVES = ("KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK")  # in ipvs mode: (pod, port, the same pod)


def rewriting(saved: str, pools: Iterable[Prefix]) -> Iterator[str]:
    """The rules in a listing of iptables-save that may change the source between two addresses of the pools."""
    inside = tuple(pools)
    chosen: set[str] = set()  # chains that only marked connections get through (kube-proxy's)
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chosen = line[1:], set()
        elif table == "nat" and line.startswith("-A ") and "fl-" not in line:
            words = shlex.split(line)
            if _lets_only_marked_pass(words):
                chosen.add(words[1])
            elif words[1] not in chosen and _may_rewrite(words, inside):
                yield line


def _lets_only_marked_pass(words: list[str]) -> bool:
    return "RETURN" in _after(words, "-j") and ("!", "--mark") in pairwise(words)


def _may_rewrite(words: list[str], pools: tuple[Prefix, ...]) -> bool:
    if not any(target in _REWRITES for target in _after(words, "-j", "-g")) or "--mark" in words:
        return False  # who marks what he masquerades chooses connections himself
    if _is_hairpin(words):
        return False
    return any(_admits(words, "-s", pool) and _admits(words, "-d", pool) for pool in pools)


def _is_hairpin(words: list[str]) -> bool:
    """Somebody who talks to himself by another address (Docker's published ports, kube-proxy's set of such pairs)."""
    if any(name in _WITH_THEMSELVES for name in _after(words, "--match-set")):
        return True
    source = _after(words, "-s")
    return source == _after(words, "-d") and any(net.endswith(("/32", "/128")) for net in source)


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
