"""The names of IPAM's objects, which are made of nodes and CIDRs, and what a name was made of. Pure.

    block_name(10.0.0.0/26)             10-0-0-0-26              as Calico writes it (reference 2.15)
    block_name(fd00::/122)              fd00---122
    affinity_name(n-1, 10.0.0.0/26)     n-1-10-0-0-0-26          as Calico writes it (reference 2.14)
    affinity_name(n-1, fd00::/122)      n-1-fd00-0000-0000-0000-0000-0000-0000-0000-122

An affinity of an IPv6 block is named with all digits: in Calico's short form `n-1-fd00---122` may be node n-1 with
fd00::/122 as well as node n with 1:fd00::/122, and a name must lead to its object.  The Kubernetes store writes the short
form there, for it finds node and CIDR in the object.
"""

from functools import lru_cache
from hashlib import sha256

from felixlite.addresses import Prefix

LONGEST = 253  # of a name in Kubernetes


@lru_cache(4096)  # an assignment asks four times for each of its blocks
def block_name(cidr: Prefix) -> str:
    return _dashed(cidr_text(cidr))


@lru_cache(4096)
def block_cidr(name: str) -> Prefix:
    """The inverse of block_name. ValueError for a name that is of no block."""
    address, _, length = name.rpartition("-")
    groups = address.split("-")
    is_v4 = len(groups) == 4 and all(group.isdecimal() for group in groups)
    cidr = Prefix.parse(f"{('.' if is_v4 else ':').join(groups)}/{length or 'none'}")
    if block_name(cidr) != name:
        raise ValueError(f"{name!r} is not the name of a block; that of {cidr} is {block_name(cidr)}")
    return cidr


def affinity_name(node: str, cidr: Prefix) -> str:
    return f"{node}-{block_name(cidr) if cidr.family == 4 else f'{_groups(cidr, 4)}-{cidr.length}'.replace(':', '-')}"


def affinity_object(node: str, cidr: Prefix) -> str:
    """The name of its object in Kubernetes, which need not lead back: node and CIDR are in the object."""
    end = f"-{block_name(cidr)}"
    if len(node) + len(end) < LONGEST:
        return node + end
    digest = sha256(node.encode()).hexdigest()[:11]
    return f"{node[: LONGEST - 1 - len(end) - len(digest) - 1]}-{digest}{end}"


def affinity_parts(name: str) -> tuple[str, Prefix]:
    """The inverse of affinity_name: node and CIDR. ValueError for a name that is of no affinity."""
    for count, separator in ((4, "."), (8, ":")):
        node, *groups = name.rsplit("-", count + 1)
        if node and len(groups) == count + 1:
            try:
                cidr = Prefix.parse(f"{separator.join(groups[:-1])}/{groups[-1] or 'none'}")
            except ValueError:
                continue
            if affinity_name(node, cidr) == name:
                return node, cidr
    raise ValueError(f"{name!r} is not the name of a BlockAffinity, such as node-1-10-0-0-0-26")


def cidr_text(cidr: Prefix) -> str:
    """As Go prints it: never a dotted quad inside an IPv6 address."""
    text = str(cidr)
    if ":" not in text or "." not in text:
        return text
    return f"{text.partition('/')[0].rpartition(':')[0]}:{_groups(cidr, 1, last=2)}/{cidr.length}"


def _groups(cidr: Prefix, digits: int, last: int = 8) -> str:
    value = int(cidr)
    return ":".join(f"{value >> 16 * place & 0xFFFF:0{digits}x}" for place in reversed(range(last)))


def _dashed(cidr: str) -> str:
    return cidr.replace("/", "-").replace(".", "-").replace(":", "-")
