"""From a person's words to the packet that they ask about: names, families, protocols. Pure.

A name may have an address of both families: IPv4 is meant, unless the other end is an IPv6 address or the question says
IPv6.  What does not fit together is an error, never passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.errors import FelixliteError
from felixlite.model.policy import ICMP, ICMPV6, PROTOCOL_NAMES, TCP, WITH_PORTS, protocol_number
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs

ECHO = {4: 8, 6: 128}


@dataclass(frozen=True, slots=True)
class Question:
    source: str
    destination: str
    protocol: str | None = None
    port: int | None = None
    source_port: int = 40000
    icmp_type: int | None = None
    icmp_code: int | None = None
    ipv6: bool = False
    source_address: str | None = None  # the pod `source` sends with it instead of its own


def packet(inputs: Inputs, asked: Question) -> Packet:
    source, destination = asked.source_address or asked.source, asked.destination
    family = 6 if asked.ipv6 else _family(asked.source) or _family(source) or _family(destination)
    start = resolved(inputs, source, family)
    end = resolved(inputs, destination, start.version)
    number = _protocol(asked, start.version)
    sender = _sender(inputs, asked, start.version)
    if number in WITH_PORTS:
        return Packet(start, end, number, asked.source_port, asked.port or 0, sender=sender)
    if number not in (ICMP, ICMPV6):
        return Packet(start, end, number, sender=sender)
    kind = ECHO[start.version] if asked.icmp_type is None else asked.icmp_type
    return Packet(start, end, number, icmp_type=kind, icmp_code=asked.icmp_code or 0, sender=sender)


def _protocol(asked: Question, family: int) -> int:
    icmp = ICMP if family == 4 else ICMPV6
    try:
        number = protocol_number(asked.protocol) if asked.protocol else TCP if asked.port else icmp
    except ValueError as error:
        raise FelixliteError(f"--protocol: {error}") from None
    name = PROTOCOL_NAMES.get(number, str(number))
    if number in (ICMP, ICMPV6) and number != icmp:
        raise FelixliteError(f"--protocol: {name} is not of IPv{family}; {PROTOCOL_NAMES[icmp]} is")
    if number in WITH_PORTS and asked.port is None:
        raise FelixliteError(f"--protocol {asked.protocol} needs a --port")
    if number not in WITH_PORTS and asked.port is not None:
        raise FelixliteError(f"--port: protocol {name} has no ports")
    if number != icmp and (asked.icmp_type is not None or asked.icmp_code is not None):
        raise FelixliteError(f"--icmp-type and --icmp-code are for ICMP, and this is {name}: leave one out")
    if asked.icmp_code is not None and asked.icmp_type is None:
        raise FelixliteError("--icmp-code needs an --icmp-type")
    return number


def _sender(inputs: Inputs, asked: Question, family: int) -> Address | None:
    if asked.source_address is None:
        return None
    if _family(asked.source_address) == 0:
        raise FelixliteError(f"--source-address: {asked.source_address!r} is not an address")
    sender = resolved(inputs, asked.source, family)
    pods = (*inputs.local_workloads.values(), *inputs.remote_workloads.values())
    if not any(Prefix.host(sender) in pod.addresses for pod in pods):
        raise FelixliteError(f"--source-address: {asked.source!r} must be a pod: what others send is not looked at")
    return sender


def as_values(asked: Packet) -> dict[str, Any]:
    """For the control socket; `from_values` reads it."""
    return {name: str(value) if isinstance(value, Address) else value for name, value in asdict(asked).items()}


def from_values(values: Mapping[str, Any]) -> Packet:
    addresses = {name: ip_address(values[name]) for name in ("source", "destination", "sender") if values.get(name)}
    return Packet(**{**values, **addresses})


# -- names -------------------------------------------------------------------------------------------------------------


def _family(text: str) -> int:
    """Of an address; 0: it is a name."""
    try:
        return ip_address(text).version
    except ValueError:
        return 0


def resolved(inputs: Inputs, name: str, family: int = 0) -> Address:
    """The address that a person means: an address, [NAMESPACE/]POD, a node, a network set (its first address)."""
    if own := _family(name):
        if family not in (0, own):
            raise FelixliteError(f"{name} is IPv{own}, and the question is about IPv{family}: give two of a kind")
        return ip_address(name)
    nets = list(_nets(inputs, name))
    if not nets:
        raise FelixliteError(
            f"{name!r}: no pod, node or network set has this name; give an address or [NAMESPACE/]NAME"
        )
    found = [net.first for net in nets if family in (0, net.family)]
    if not found:
        raise FelixliteError(f"{name!r} has no IPv{family} address; it has {', '.join(str(net.first) for net in nets)}")
    return found[0]


def _nets(inputs: Inputs, name: str) -> Iterator[Prefix]:
    namespace, _, short = name.rpartition("/")
    for mapping in (inputs.local_workloads, inputs.remote_workloads):
        for workload in mapping.values():
            if workload.namespace == (namespace or "default") and short in (workload.pod, workload.name):
                yield from workload.addresses
    if not namespace and (node := inputs.nodes.get(name)):
        yield from (Prefix.host(own) for own in (node.address(4), node.address(6)) if own)
    for where in (namespace,) if namespace else ("", "default"):
        if network_set := inputs.network_sets.get((where, short)):
            yield from network_set.nets
