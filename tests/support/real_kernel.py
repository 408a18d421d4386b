"""The real kernel in a namespace, behind the same few words as fake_kernel.py."""

from typing import Any

from felixlite.kernel.addresses import Addresses
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links
from felixlite.kernel.neighbours import ForwardingEntries, Neighbours
from felixlite.kernel.routes import Routes
from felixlite.kernel.rules import Rules
from felixlite.kernel.sysctls import Sysctls
from felixlite.tables import Table
from tests.support.fake_kernel import FOREIGN
from tests.support.netns import Namespace


class RealKernel:
    def __init__(self, net: Namespace, host: Host) -> None:
        self.net, self.host = net, host

    def add_link(self, name: str, kind: str = "bridge") -> None:
        self.net.ip(f"link add {name} type {kind}")
        self.set_up(name)

    def set_up(self, name: str) -> None:
        self.net.ip(f"link set {name} up")

    def set_down(self, name: str) -> None:
        self.net.ip(f"link set {name} down")

    def remove_link(self, name: str) -> None:
        self.net.ip(f"link delete {name}")

    def add_address(self, link: str, text: str) -> None:
        self.net.ip(f"address add {text} dev {link}")

    def add_route(self, prefix: str, link: str, *, protocol: int = FOREIGN) -> None:
        self.net.ip(f"route add {prefix} dev {link} proto {protocol}")

    def remove_route(self, prefix: str) -> None:
        self.net.ip(f"route delete {prefix}")

    def foreign_routes(self) -> set[str]:
        return self._routes(FOREIGN)

    def our_routes(self) -> set[str]:
        return self._routes(80)

    def _routes(self, protocol: int) -> set[str]:
        listed = self.net.show(f"-4 route show table all proto {protocol}") + self.net.show(
            f"-6 route show table all proto {protocol}"
        )
        return {_prefix(route["dst"]) for route in listed}

    def tables(self) -> tuple[Table[Any, Any], ...]:
        host = self.host
        return (
            Links(host),
            Addresses(host),
            Sysctls(host),
            Neighbours(host),
            ForwardingEntries(host),
            Routes(host),
            Rules(host),
        )


def _prefix(shown: str) -> str:
    if "/" in shown:
        return shown
    return f"{shown}/128" if ":" in shown else f"{shown}/32"
