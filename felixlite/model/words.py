"""The types of single fields: what pydantic calls to check them, and what they are in a JSON schema.

Kept apart from scalars.py so that who needs only the meaning of a value does not import pydantic.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from felixlite.addresses import Address as AnyAddress
from felixlite.addresses import Prefix
from felixlite.model import policy, scalars
from felixlite.model.selector import Selector as ParsedSelector


def _number(low: int, high: int) -> Any:
    return Field(ge=low, le=high)


def _seconds(low: float, high: float) -> PlainValidator:
    def within(given: Any) -> float:
        found = scalars.duration(given)
        if not low <= found <= high:
            raise ValueError(f"must be a duration from {low:g}s to {high:g}s")
        return found

    return PlainValidator(within)


def _text(check: Callable[[Any], Any], **schema: Any) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(check), WithJsonSchema({"type": "string", **schema})


_INT_OR_TEXT = WithJsonSchema({"x-kubernetes-int-or-string": True})
_DURATION_SCHEMA = WithJsonSchema({"type": "string", "format": "duration"})

Cidr = Annotated[Prefix, *_text(scalars.cidr, format="cidr")]
SloppyCidr = Annotated[Prefix, *_text(scalars.sloppy_cidr, format="cidr")]
Net = Annotated[Prefix, *_text(scalars.net)]
HostNet = Annotated[Prefix, *_text(scalars.host_net)]
Address = Annotated[AnyAddress, *_text(scalars.address)]
Address4 = Annotated[IPv4Address, *_text(scalars.address4, format="ipv4")]
Address6 = Annotated[IPv6Address, *_text(scalars.address6, format="ipv6")]
NodeAddress4 = Annotated[IPv4Interface, *_text(scalars.usable4)]
NodeAddress6 = Annotated[IPv6Interface, *_text(scalars.usable6)]
Selector = Annotated[ParsedSelector, *_text(scalars.selector, maxLength=scalars.LONGEST_SELECTOR)]
AsNumber = Annotated[int, PlainValidator(scalars.as_number), _INT_OR_TEXT]
Community = Annotated[str, *_text(scalars.community)]
Interface = Annotated[str, *_text(scalars.interface, pattern=r"^[a-zA-Z0-9_.-]{1,15}$")]
InterfacePattern = Annotated[str, *_text(scalars.interface_pattern, pattern=r"^[a-zA-Z0-9_.*-]{1,15}$")]
Mac = Annotated[str, *_text(scalars.mac)]
Port = Annotated[policy.Port, PlainValidator(scalars.port), _INT_OR_TEXT]
Protocol = Annotated[int, PlainValidator(scalars.protocol), _INT_OR_TEXT]
Dscp = Annotated[int | str, PlainValidator(scalars.dscp), _INT_OR_TEXT]
Name = Annotated[str, *_text(scalars.name, maxLength=scalars.LONGEST_NAME)]
TierName = Annotated[str, *_text(scalars.tier, maxLength=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]

PortNumber = Annotated[int, _number(1, 65535)]
Priority = Annotated[int, _number(1, 2_147_483_646)]
Duration = Annotated[float, PlainValidator(scalars.duration), _DURATION_SCHEMA]
RestartTime = Annotated[float, _seconds(1, 4095), _DURATION_SCHEMA]  # RFC 4724: 12 bits
KeepaliveTime = Annotated[float, _seconds(1, 21845), _DURATION_SCHEMA]

Severity = Literal["Trace", "Debug", "Info", "Warning", "Error", "Fatal"]
Switch = Literal["Enabled", "Disabled"]
