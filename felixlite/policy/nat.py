"""NAT rules of other programs that would rewrite the source of what one pod sends to another. Pure.

Docker's default rule masquerades whatever leaves a bridge's range by another interface; when that range covers a pool,
pods lose their addresses, and with them every policy that knows them.  `status` and `doctor` show what is found here;
the setting keepPodAddresses makes the NAT chain that comes first (ours) take such connections out of their reach.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from felixlite.addresses import Prefix

_REWRITES = ("MASQUERADE", "SNAT", "NETMAP")
_WITH_THEMSELVES = ("KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK")  # in ipvs mode: (pod, port, the same pod)
_OURS = "-A fl-"


def rewriting(saved: str, pools: Iterable[Prefix]) -> Iterator[str]:
    """The rules in a listing of iptables-save that may change the source between two addresses of the pools.

    Followed from POSTROUTING through every jump that pods' packets could take, once for each pool.
    """
    chains = _nat_chains(saved)
    waiting = [("POSTROUTING", pool) for pool in pools]
    met, found = set(waiting), dict[str, None]()
    while waiting:
        chain, pool = waiting.pop(0)
        for line, words in _passed(chains.get(chain, {}), pool):
            targets = _after(words, "-j", "-g")
            if any(target in _REWRITES for target in targets) and not _is_hairpin(words):
                found[line] = None
            further = [(target, pool) for target in targets if target in chains and (target, pool) not in met]
            met.update(further)
            waiting += further
    return iter(found)


def _nat_chains(saved: str) -> dict[str, dict[str, list[str]]]:
    """Of each chain of others the rules: the line, and its words."""
    found: dict[str, dict[str, list[str]]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif table == "nat" and line.startswith("-A ") and not line.startswith(_OURS):
            words = shlex.split(line)
            found.setdefault(words[1], {})[line] = words
    return found


def _passed(rules: Mapping[str, list[str]], pool: Prefix) -> Iterator[tuple[str, list[str]]]:
    """The rules of a chain that packets between two pods may match."""
    for line, words in rules.items():
        if _lets_only_marked_pass(words):
            return
        if "--mark" in words or not (_admits(words, "-s", pool) and _admits(words, "-d", pool)):
            continue  # who marks what he masquerades chooses connections himself
        if _spares(words, pool):
            return
        yield line, words


def _lets_only_marked_pass(words: list[str]) -> bool:
    return "RETURN" in _after(words, "-j") and ("!", "--mark") in pairwise(words)


def _spares(words: list[str], pool: Prefix) -> bool:
    """Whether it ends the chain for all that pods of the pool send to each other (flannel, ip-masq-agent)."""
    asked = {word for word in words[2:] if word.startswith("-") or word == "!"}
    if not asked <= {"-s", "-d", "-j", "-m", "--comment"} or set(_after(words, "-m")) - {"comment"}:
        return False
    try:
        nets = [Prefix.parse(net) for net in _after(words, "-s", "-d")]
    except ValueError:  # a mask with holes
        return False
    return _after(words, "-j") in (["RETURN"], ["ACCEPT"]) and all(net.covers(pool) for net in nets)


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
