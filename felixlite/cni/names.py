"""Names and addresses that follow from whose interface it is: the same on every call, so nothing has to be remembered."""

import hashlib
import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from felixlite.addresses import Prefix

HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"  # of every host end: a pod's neighbour entry stays right wherever it moves
GATEWAY: Final = IPv4Address("169.254.1.1")  # on no interface anywhere: proxy ARP answers for it
GATEWAY_6: Final = IPv6Address("fe80::ecee:eeff:feee:eeee")  # the link-local address that follows from HOST_MAC
FIRST_INTERFACE: Final = "eth0"
EVERYTHING: Final = Prefix.parse("0.0.0.0/0")
EVERYTHING_6: Final = Prefix.parse("::/0")
_PLAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,58}[a-z0-9])?")


def interface_name(namespace: str, pod: str, interface: str = FIRST_INTERFACE, prefix: str = "cali") -> str:
    """The host's end. The name is Calico's; further interfaces of a pod count as pods of their own (no pod's name has a
    colon, but one may be called web.net1)."""
    whose = f"{namespace}.{pod}" if interface == FIRST_INTERFACE else f"{namespace}.{pod}:{interface}"
    return prefix + _digest(whose)[: 15 - len(prefix)]


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def plain(text: str) -> str:
    """A DNS label for a name that need not be one: itself if it is, else what can be read of it and a digest of it all."""
    if _PLAIN.fullmatch(text):
        return text
    return f"{re.sub('[^a-z0-9]+', '-', text.lower())[:50].strip('-')}-{_digest(text)[:8]}".lstrip("-")


def is_interface_name(name: str, prefix: str = "cali") -> bool:
    """Could interface_name have made it?"""
    rest = name.removeprefix(prefix)
    return rest != name and len(rest) == 15 - len(prefix) and not set(rest) - set("0123456789abcdef")


def handle_id(network: str, container: str, interface: str) -> str:
    """What the addresses of an attachment are held by: (network, container, interface) is its key (CNI, section 2).

    A container ID with a dot (no runtime makes one by itself) is changed: the next dot is the interface's.
    """
    return older_handle_id(network, plain(container) if "." in container else container, interface)


def older_handle_id(network: str, container: str, interface: str) -> str:
    """As it was first: container a.x1 and interface x1 of container a had the same."""
    first = f"{network}.{container}"
    return first if interface == FIRST_INTERFACE else f"{first}.{interface}"


def pod_mac(container: str, interface: str) -> str:
    """Locally administered, and the same again when an ADD is repeated."""
    digest = hashlib.sha1(f"{container} {interface}".encode(), usedforsecurity=False).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
