"""What stands behind a service's address: kube-proxy puts it in place before any policy is asked. Pure.

Which of a service's ports leads to which port behind it is kube-proxy's knowledge and not kept here: a service with
several ports of one protocol is named with all that stands behind it, and no guess is made.
"""

from collections.abc import Mapping
from dataclasses import replace

from felixlite.addresses import Address, Prefix
from felixlite.errors import FelixliteError
from felixlite.model.inside import ServiceAddresses
from felixlite.model.policy import PROTOCOL_NAMES, WITH_PORTS, Service
from felixlite.policy.evaluate import Packet

ServiceKey = tuple[str, str]


def service_at(services: Mapping[ServiceKey, ServiceAddresses], address: Address) -> ServiceKey | None:
    host = Prefix.host(address)
    return next(
        (key for key, one in services.items() if host in (*one.cluster, *one.external, *one.load_balancer)), None
    )


def behind(key: ServiceKey, service: Service | None, packet: Packet) -> list[Packet]:
    """The same connection to each backend; none where kube-proxy does not translate, or nothing is there."""
    if packet.protocol not in WITH_PORTS or service is None:
        return []
    found = [
        replace(packet, destination=backend.address, port=backend.port, by_service=True)
        for backend in service.backends
        if backend.protocol == packet.protocol and backend.address.version == packet.family
    ]
    if len({one.port for one in found}) > 1:
        protocol = PROTOCOL_NAMES[packet.protocol]
        ends = ", ".join(f"{one.destination} --protocol {protocol} --port {one.port}" for one in found[:6])
        raise FelixliteError(
            f"{packet.destination} is service {'/'.join(key)}, and kube-proxy knows which of its ports leads where: "
            f"explain what stands behind it ({ends}{', ...' if len(found) > 6 else ''})"
        )
    return found
