"""ip sets for the iptables backend, through `ipset restore` and `ipset save`.

A set is changed by what it lost and gained; when that is most of it, a new one is filled beside it and swapped in, so
that no packet ever meets a half-filled set.  A new one is made as wide as it has to be: the kernel widens a set by
copying it, several times on the way to ten thousand members.  Ours begin with `fl4-` or `fl6-`; no other is touched.
"""

import subprocess
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from subprocess import PIPE
from typing import cast

from felixlite.addresses import Prefix, first_texts
from felixlite.policy.apart import Refused
from felixlite.policy.costs import ACCOUNT
from felixlite.policy.iptables_match import set_name
from felixlite.policy.rows import IpSet, Key, Member, SetKind, host_or_net

PATIENCE = 30.0
LARGEST = 1 << 20
_TYPES: Mapping[SetKind, str] = {
    "ip": "hash:ip",
    "net": "hash:net",
    "ip,port": "hash:ip,port",
    "iface,ip": "hash:net,iface",
    "mac,ip": "hash:ip,mac",
}
_KINDS: Mapping[str, SetKind] = {name: kind for kind, name in _TYPES.items()}


started: deque[int] = deque(maxlen=256)  # the processes of late: what they change, nobody else has changed


def run(arguments: list[str], text: str = "", **environment: str) -> str:
    """Run a program with the text on its standard input."""
    with ACCOUNT.charged(arguments[0], text):
        return _run(arguments, text, {**_ENVIRONMENT, **environment})


def _run(arguments: list[str], text: str, environment: Mapping[str, str]) -> str:
    try:
        process = subprocess.Popen(arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, env=environment)
    except OSError as error:
        raise Refused(f"{arguments[0]}: {error.strerror}; install it") from None
    started.append(process.pid)  # before it gets the text that says what to change
    with process:
        try:
            output, errors = process.communicate(text, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Refused(f"{arguments[0]}: no answer within {PATIENCE:g} s") from None
    if process.returncode:
        raise Refused(f"{arguments[0]}: {(errors or output).strip() or f'exit status {process.returncode}'}")
    return output


_ENVIRONMENT = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}


def member_text(member: Member) -> str:
    if isinstance(member, Prefix):
        return host_or_net(member)
    if len(member) == 2:
        owner, own = member
        return f"{own.first_text},{owner}"
    host, protocol, port = member
    return f"{host.first_text},{protocol}:{port}"


def _texts(kind: SetKind, members: Iterable[Member]) -> Iterable[str]:
    if kind == "ip":  # there may be ten thousand
        return first_texts(cast("Iterable[Prefix]", members))
    return map(member_text, members)


def difference(name: str, old: IpSet | None, new: IpSet, family: int) -> Iterator[str]:
    """The lines of `ipset restore` that make the one of the other."""
    gone = old.members - new.members if old else frozenset()
    come = new.members - old.members if old else new.members
    if old and (len(gone) > len(new.members) or len(come) > max(1000, 4 * len(old.members))):
        spare = f"fl{family}-spare"
        yield _create(spare, new, family)
        yield f"flush {spare}"
        yield from (f"add {spare} {text}" for text in _texts(new.kind, new.members))
        yield f"swap {spare} {name}"
        yield f"destroy {spare}"
        return
    if old is None:
        yield _create(name, new, family)
    yield from (f"del {name} {text}" for text in map(member_text, gone))
    yield from (f"add {name} {text}" for text in _texts(new.kind, come))


def _create(name: str, new: IpSet, family: int) -> str:
    buckets = max(1024, 1 << (len(new.members) // 2).bit_length())
    inet = "inet" if family == 4 else "inet6"
    return f"create {name} {_TYPES[new.kind]} family {inet} hashsize {buckets} maxelem {LARGEST}"


def write(old: Mapping[Key, IpSet], new: Mapping[Key, IpSet], family: int) -> None:
    lines = [
        line for key, row in new.items() for line in difference(set_name(key.name, family), old.get(key), row, family)
    ]
    if lines:
        run(["ipset", "-exist", "restore"], "\n".join([*lines, ""]))


def destroy(keys: Collection[Key], family: int) -> dict[Key, Exception]:
    """Remove sets; answers those that somebody still refers to.

    The kernel lets go of an nft rule that named a set some time after the rule is gone (after a grace period of RCU, in
    a worker that every network namespace shares), so a set in use is asked again for a while.
    """
    left = dict.fromkeys(keys, _NOT_TRIED)
    deadline, pause = time.monotonic() + LETTING_GO, 0.005
    while True:
        left = {key: error for key in left if (error := _destroyed(key, family))}
        if time.monotonic() > deadline or not any("in use" in str(error) for error in left.values()):
            return dict(left)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


LETTING_GO = 2.0
_NOT_TRIED = Refused("not tried yet")


def _destroyed(key: Key, family: int) -> Refused | None:
    try:
        run(["ipset", "destroy", set_name(key.name, family)])
    except Refused as error:
        return None if "does not exist" in str(error) else error
    return None


def read(family: int) -> dict[Key, IpSet]:
    """Our sets of the family."""
    kinds: dict[str, SetKind] = {}
    members: dict[str, set[Member]] = {}
    prefix = set_name("", family)
    for line in run(["ipset", "save"]).splitlines():
        words = line.split()
        if len(words) < 3 or not words[1].startswith(prefix):
            continue
        if words[0] == "create":
            kinds[words[1]] = _KINDS.get(words[2], "ip")
            members[words[1]] = set()
        elif words[0] == "add":
            members[words[1]].add(_member(kinds[words[1]], words[2]))
    return {Key("set", name.removeprefix(prefix)): IpSet(kinds[name], frozenset(members[name])) for name in kinds}


def _member(kind: SetKind, text: str) -> Member:
    address, comma, rest = text.partition(",")
    if not comma:
        return Prefix.parse(address)
    if kind == "mac,ip":  # ipset shows it in capitals
        return rest.lower(), Prefix.parse(address)
    protocol, colon, port = rest.partition(":")
    if colon and protocol in _PROTOCOLS:
        return Prefix.host(ip_address(address)), _PROTOCOLS[protocol], int(port)
    return rest, Prefix.parse(address)


_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "udplite": 136}
