"""Names and addresses that follow from whose interface it is: the same on every call, so nothing has to be remembered."""

import hashlib
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from felixlite.addresses import Prefix

HOST_MAC: Final = "ee:ee:ee:ee:ee:ee"  # of every host end: a pod's neighbour entry stays right wherever it moves
GATEWAY: Final = IPv4Address("169.254.1.1")  # on no interface anywhere: proxy ARP answers for it
GATEWAY_6: Final = IPv6Address("fe80::ecee:eeff:feee:eeee")  # the link-local address that follows from HOST_MAC
FIRST_INTERFACE: Final = "eth0"
EVERYTHING: Final = Prefix.parse("0.0.0.0/0")
EVERYTHING_6: Final = Prefix.parse("::/0")


def interface_name(namespace: str, pod: str, interface: str = FIRST_INTERFACE, prefix: str = "cali") -> str:
    """The host's end. The name is Calico's; further interfaces of a pod count as pods of their own."""
    whose = f"{namespace}.{pod}" if interface == FIRST_INTERFACE else f"{namespace}.{pod}.{interface}"
    return prefix + hashlib.sha1(whose.encode(), usedforsecurity=False).hexdigest()[: 15 - len(prefix)]


def is_interface_name(name: str, prefix: str = "cali") -> bool:
    """Could interface_name have made it?"""
    rest = name.removeprefix(prefix)
    return rest != name and len(rest) == 15 - len(prefix) and not set(rest) - set("0123456789abcdef")


def handle_id(network: str, container: str, interface: str) -> str:
    """What the addresses of an attachment are held by: (network, container, interface) is its key (CNI, section 2)."""
    first = f"{network}.{container}"
    return first if interface == FIRST_INTERFACE else f"{first}.{interface}"


def pod_mac(container: str, interface: str) -> str:
    """Locally administered, and the same again when an ADD is repeated."""
    digest = hashlib.sha1(f"{container} {interface}".encode(), usedforsecurity=False).digest()
    return ":".join(f"{byte:02x}" for byte in (digest[0] & 0xFC | 0x02, *digest[1:6]))
