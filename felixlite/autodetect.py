"""Which of a machine's addresses is the node's: the methods of the reference (section 7), on values. Pure.

    first-found              the first usable address on an interface that does not look like somebody's virtual one
    interface=REGEX,...      the first on an interface whose name matches
    skip-interface=REGEX,... the first on any other interface
    cidr=CIDR,...            the first inside one of the networks
    can-reach=ADDRESS        the one from which the kernel would send to that address
    10.0.0.5 or 10.0.0.5/24  this one, if an interface has it
    none                     no address of this family

The interface's prefix length stays with the address: it later decides what "the same subnet" is.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface

from felixlite.addresses import Address, Interface, Prefix
from felixlite.errors import Misconfigured
from felixlite.snapshot import LinkState

Toward = Callable[[Address], Address | None]  # the source address that the kernel would choose


def choose(
    method: str,
    family: int,
    links: Mapping[str, LinkState],
    held: Iterable[tuple[str, str]],
    skipped: Sequence[str],
    toward: Toward,
) -> Interface | None:
    """The node's address of a family, None if the method is none. Misconfigured says what was looked for in vain."""
    if method == "none":
        return None
    usable = list(_usable(family, links, held))
    name, equals, argument = method.partition("=")
    found = _by_argument(name, argument, usable, toward) if equals else _by_word(method, usable, skipped)
    if found is None:
        there = ", ".join(f"{address} on {link}" for link, address in usable) or "none at all"
        raise Misconfigured(
            f"no IPv{family} address of this machine fits {method!r}; there are {there}; "
            "set --ip or --ip-autodetection-method (FelixConfiguration ipAutodetectionMethod)"
        )
    return found


def _usable(
    family: int, links: Mapping[str, LinkState], held: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, Interface]]:
    """Addresses on links that are up, in the order of the links, without loopback and link-local ones."""
    for link, text in sorted(held, key=lambda key: (links[key[0]].index if key[0] in links else 0, key[1])):
        address = ip_interface(text)
        special = address.ip.is_loopback or address.ip.is_link_local or address.ip.is_multicast
        if address.version == family and not special and link in links and links[link].up:
            yield link, address


def _by_word(method: str, usable: Sequence[tuple[str, Interface]], skipped: Sequence[str]) -> Interface | None:
    if method == "first-found":
        return _first(usable, lambda link, _: not _matches(link, skipped))
    try:
        wanted = ip_interface(method)
    except ValueError:
        raise Misconfigured(
            f"{method!r} is no way to find an address; known are first-found, interface=, skip-interface=, cidr=, "
            "can-reach=, an address, and none"
        ) from None
    return _first(usable, lambda _, address: address.ip == wanted.ip)


def _by_argument(name: str, argument: str, usable: Sequence[tuple[str, Interface]], toward: Toward) -> Interface | None:
    parts = [part.strip() for part in argument.split(",") if part.strip()]
    try:
        match name:
            case "interface":
                return _first(usable, lambda link, _: _matches(link, parts))
            case "skip-interface":
                return _first(usable, lambda link, _: not _matches(link, parts))
            case "cidr":
                nets = [Prefix.parse(part) for part in parts]
                return _first(usable, lambda _, address: any(net.holds(address.ip) for net in nets))
            case "can-reach":
                source = toward(ip_address(argument))
                return _first(usable, lambda _, address: address.ip == source)
    except (ValueError, re.error, OverflowError, RecursionError) as error:
        raise Misconfigured(f"{name}={argument}: {error}") from None
    raise Misconfigured(
        f"{name}= is no way to find an address; known are interface=, skip-interface=, cidr=, can-reach="
    )


def _matches(link: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, link) for pattern in patterns)


def _first(usable: Sequence[tuple[str, Interface]], fits: Callable[[str, Interface], bool]) -> Interface | None:
    return next((address for link, address in usable if fits(link, address)), None)
