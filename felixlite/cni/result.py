"""What the runtime reads: results in the version that it asked for, behind those of earlier plugins, and errors. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from felixlite.addresses import Prefix
from felixlite.cni.errors import CniError, Code
from felixlite.cni.names import GATEWAY, GATEWAY_6, HOST_MAC
from felixlite.cni.request import VERSIONS, Request
from felixlite.snapshot import LinkState


@dataclass(frozen=True, slots=True)
class Attached:
    """What an ADD made."""

    link: LinkState  # the host's end
    mac: str  # of the pod's end
    addresses: Sequence[Prefix]


def result(request: Request, attached: Attached) -> dict[str, Any]:
    """The result of ADD: ours behind what the plugins before us said."""
    before = request.previous or {}
    interfaces = list(before.get("interfaces") or [])
    ours = len(interfaces) + 1
    interfaces += [
        {"name": attached.link.name, "mac": HOST_MAC},
        {"name": request.interface, "mac": attached.mac, "sandbox": request.netns},
    ]
    ips = [dict(ip) for ip in before.get("ips") or []]
    ips += [{"address": str(address), "interface": ours} for address in attached.addresses]
    routes = [*(before.get("routes") or []), *_routes(request, attached.addresses)]
    found = {"cniVersion": request.version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": dns(request)}
    return _in_words_of(request.version, found, attached.link.mtu)


def _routes(request: Request, addresses: Sequence[Prefix]) -> list[dict[str, str]]:
    if not wants_default_routes(request):
        return []
    ways = {4: {"dst": "0.0.0.0/0", "gw": str(GATEWAY)}, 6: {"dst": "::/0", "gw": str(GATEWAY_6)}}
    return [ways[family] for family in sorted({address.family for address in addresses})]


def wants_default_routes(request: Request) -> bool:
    return request.config.get("include_default_routes") is not False


def dns(request: Request) -> dict[str, Any]:
    """The runtime's word, else the configuration's, else what an earlier plugin said; we have no opinion."""
    before = (request.previous or {}).get("dns")
    return dict(request.given("dns") or request.config.get("dns") or before or {})


def _in_words_of(version: str, found: dict[str, Any], mtu: int) -> dict[str, Any]:
    """`ips[].version` went away with 1.0.0; `interfaces[].mtu` came with 1.1.0."""
    for ip in found["ips"]:
        ip.pop("version", None)
        if VERSIONS.index(version) < VERSIONS.index("1.0.0"):
            ip["version"] = "6" if ":" in ip["address"] else "4"
    if version == "1.1.0":
        for interface in found["interfaces"][-2:]:
            interface["mtu"] = mtu
    return found


def error(version: str, problem: CniError) -> dict[str, Any]:
    found = {"cniVersion": version, "code": int(problem.code), "msg": problem.message}
    return {**found, "details": problem.details} if problem.details else found


def addresses_of(request: Request) -> list[Prefix]:
    """What `prevResult` says that our interface has (CHECK)."""
    previous: Mapping[str, Any] = request.previous or {}
    interfaces = previous.get("interfaces") or []
    ours = [
        number
        for number, interface in enumerate(interfaces)
        if interface.get("name") == request.interface and interface.get("sandbox")
    ]
    if not ours:
        raise CniError(Code.INVALID_CONFIG, f"prevResult.interfaces: {request.interface} in the pod is not listed")
    ips = (ip_interface(ip["address"]) for ip in previous.get("ips") or [] if ip.get("interface") in ours)
    return [Prefix(ip.packed, ip.network.prefixlen) for ip in ips]
