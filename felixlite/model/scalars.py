"""Single values as users write them: CIDRs, durations, AS numbers, communities, interfaces. Pure.

Each function takes what the document says and answers what it means, or raises ValueError with what would be right.
"""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from felixlite.addresses import Address, Interface, Prefix
from felixlite.config import LONGEST
from felixlite.model import policy
from felixlite.model.selector import Selector, SelectorError
from felixlite.model.selector import parse as parse_selector

LONGEST_SELECTOR = 1024
LONGEST_NAME = 253

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_TIER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", re.ASCII)
_SLOPPY_CIDR = re.compile(r"([0-9a-fA-F:.]+)/(\d{1,3})", re.ASCII)
_LEADING_ZEROS = re.compile(r"\b0+(?=\d)", re.ASCII)
_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}", re.ASCII)
_INTERFACE_PATTERN = re.compile(r"[a-zA-Z0-9_.*-]{1,15}", re.ASCII)
_PORT_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def text(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError("must be a text (put it in quotes)")  # noqa: TRY004  pydantic collects ValueErrors
    return given


def whole(given: Any, low: int, high: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise ValueError(f"must be a whole number from {low} to {high}")
    return given


def cidr(given: Any) -> Prefix:
    """A network in its canonical form, `10.0.0.0/16`."""
    if "/" not in text(given):
        raise ValueError("must be a CIDR such as 10.0.0.0/16 or fd00::/64")
    return net(given)


def net(given: Any) -> Prefix:
    """A network, or a single address as its /32 or /128."""
    try:
        return Prefix.parse(text(given))
    except ValueError as error:
        if "host bits" in str(error):
            network = str(error).rpartition(" ")[2]
            raise ValueError(f"has bits set beyond its prefix length; write {network}") from None
        raise ValueError("must be a CIDR such as 10.0.0.0/16 or fd00::/64") from None


def sloppy_cidr(given: Any) -> Prefix:
    """As Kubernetes reads an ipBlock: zeros may lead, and bits beyond the prefix length do not count."""
    spelled = _SLOPPY_CIDR.fullmatch(text(given))
    address, length = spelled.groups() if spelled else ("", "0")
    plain = address if ":" in address else _LEADING_ZEROS.sub("", address)
    try:
        found = ip_network((plain, int(length)), strict=False)
    except ValueError:
        raise ValueError("must be a CIDR such as 10.0.0.0/16 or fd00::/64") from None
    return Prefix(found.network_address.packed, found.prefixlen)


def host_net(given: Any) -> Prefix:
    """One address, with or without /32 or /128."""
    found = net(given)
    if not found.is_host:
        raise ValueError(f"must be one address, /{found.width}")
    return found


def address(given: Any) -> Address:
    try:
        return ip_address(text(given))
    except ValueError:
        raise ValueError("must be an IP address") from None


def address4(given: Any) -> IPv4Address:
    try:
        return IPv4Address(text(given))
    except ValueError:
        raise ValueError("must be an IPv4 address") from None


def address6(given: Any) -> IPv6Address:
    try:
        return IPv6Address(text(given))
    except ValueError:
        raise ValueError("must be an IPv6 address") from None


def usable(given: Any) -> Interface:
    """An address of a machine, with the prefix length of its subnet: `192.0.2.5/24`."""
    try:
        found = ip_interface(text(given))
    except ValueError:
        raise ValueError("must be an IP address with the prefix length of its subnet, such as 192.0.2.5/24") from None
    own = found.ip
    if own.is_loopback or own.is_unspecified or own.is_link_local or own.is_multicast:
        raise ValueError("must be an address that other nodes can reach (not loopback, unspecified, link-local)")
    return found


def usable4(given: Any) -> IPv4Interface:
    found = usable(given)
    if not isinstance(found, IPv4Interface):
        raise ValueError("must be an IPv4 address")  # noqa: TRY004
    return found


def usable6(given: Any) -> IPv6Interface:
    found = usable(given)
    if not isinstance(found, IPv6Interface):
        raise ValueError("must be an IPv6 address")  # noqa: TRY004
    return found


def selector(given: Any) -> Selector:
    if len(text(given)) > LONGEST_SELECTOR:
        raise ValueError(f"is longer than {LONGEST_SELECTOR} characters")
    try:
        return parse_selector(given)
    except SelectorError as error:
        raise ValueError(f"is not a selector: at column {error.column + 1}: expected {error.expected}") from None


def as_number(given: Any) -> int:
    """64512, "64512" or "1.10" (RFC 5396)."""
    if isinstance(given, int) and not isinstance(given, bool):
        number = given
    else:
        high, dot, low = str(given).partition(".")
        parts = [int(part) if part.isdecimal() and part.isascii() else -1 for part in (high, low) if part or dot]
        dotted = len(parts) == 2 and all(0 <= part < 1 << 16 for part in parts)
        number = (parts[0] << 16) + parts[1] if dotted else parts[0] if len(parts) == 1 else -1
    if not 0 < number < 1 << 32:
        raise ValueError('must be an AS number from 1 to 4294967295, or dotted such as "1.10"')
    return number


def duration(given: Any) -> float:
    """Go's form, `90s`, `1m30s`, in seconds."""
    written = text(given)
    if written == "0":
        return 0.0
    seconds = sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(written))
    if not written or _DURATION.sub("", written) or seconds > LONGEST:
        raise ValueError("must be a duration such as 90s or 5m, below a year")
    return seconds


def community(given: Any) -> str:
    """`65000:1` or, large, `65000:1:2`."""
    parts = text(given).split(":")
    limit = {2: 1 << 16, 3: 1 << 32}.get(len(parts), 0)
    if not all(part.isdecimal() and part.isascii() and int(part) < limit for part in parts):
        raise ValueError("must be a community such as 65000:100 (each below 65536) or 65000:100:1")
    return str(given)


def interface(given: Any) -> str:
    if not _INTERFACE.fullmatch(text(given)):
        raise ValueError("must be the name of a network interface: at most 15 of a-z A-Z 0-9 _ . -")
    return str(given)


def interface_pattern(given: Any) -> str:
    if not _INTERFACE_PATTERN.fullmatch(text(given)):
        raise ValueError("must be the name of a network interface, * for any characters, at most 15")
    return str(given)


def mac(given: Any) -> str:
    if not _MAC.fullmatch(text(given)):
        raise ValueError("must be a MAC address such as 66:9e:12:34:56:78")
    return str(given)


def port(given: Any) -> policy.Port:
    if isinstance(given, bool) or not isinstance(given, int | str) or given == "":
        raise ValueError('must be a port: a number, a range "8000:8080", or a name')
    found = _checked_port(given)
    if isinstance(found, str) and not _PORT_NAME.fullmatch(found):
        raise ValueError('must be a port: 0 to 65535, a range "8000:8080", or a name of a-z A-Z 0-9 _ . -')
    return found


def _checked_port(given: int | str) -> policy.Port:
    try:
        return policy.port(given)
    except ValueError:
        raise ValueError('must be a port from 0 to 65535, or a range of such, lower one first: "8000:8080"') from None


def protocol(given: Any) -> int:
    try:
        return policy.protocol_number("" if isinstance(given, bool) else given)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(policy.PROTOCOLS)}, or a number from 1 to 255") from None


_CLASSES = {"DF", "EF"} | {f"CS{n}" for n in range(8)} | {f"AF{n}{drop}" for n in range(1, 5) for drop in range(1, 4)}


def dscp(given: Any) -> int | str:
    """A class of service: 0 to 63, or its name."""
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 63:
        return given
    if isinstance(given, str) and given.upper() in _CLASSES:
        return given.upper()
    raise ValueError("must be a number from 0 to 63 or a class such as EF, CS1, AF21")


def name(given: Any) -> str:
    if len(text(given)) > LONGEST_NAME or not _SUBDOMAIN.fullmatch(given):
        raise ValueError(
            f"must be a DNS name: a-z 0-9 - and ., beginning and ending with a letter or digit, at most {LONGEST_NAME}"
        )
    return str(given)


def tier(given: Any) -> str:
    if not _TIER.fullmatch(text(given)):
        raise ValueError(
            "must be the name of a tier: at most 63 of a-z 0-9 -, no dots, beginning and ending with a letter or digit"
        )
    return str(given)


def is_label_key(key: str) -> bool:
    prefix, slash, short = key.rpartition("/")
    named = 0 < len(short) <= 63 and bool(_LABEL_VALUE.fullmatch(short))
    return named and (not slash or (len(prefix) <= LONGEST_NAME and bool(_SUBDOMAIN.fullmatch(prefix))))


def is_label_value(value: str) -> bool:
    return len(value) <= 63 and bool(_LABEL_VALUE.fullmatch(value))
