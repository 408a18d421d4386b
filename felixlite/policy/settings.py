"""What FelixConfiguration says about policy and NAT, typed. Pure.

`of` reads the values in force under their FelixConfiguration names (felixlite/config.py has already parsed them and
decided which source wins); a name that is absent has the reference's default.  Which backend to use is decided in
backend.py, from these and from what the host shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal

from felixlite.addresses import Address, Prefix
from felixlite.policy.rows import Log

Verdict = Literal["Drop", "Reject"]


@dataclass(frozen=True, slots=True)
class PolicySettings:
    interfaces: tuple[str, ...] = ("cali",)
    ipip: bool | None = None  # None: when a pool wants it
    vxlan: bool | None = None
    vxlan_port: int = 4789
    pods_may_ipip: bool = False
    pods_may_vxlan: bool = False
    to_host: Literal["Drop", "Return", "Accept"] = "Drop"
    deny: Verdict = "Drop"
    service_loop: Literal["Drop", "Reject", "Disabled"] = "Drop"
    external_nodes: tuple[Prefix, ...] = ()
    may_spoof: bool = False
    check_invalid: bool = True
    mark_mask: int = 0xFFFF0000
    insert: bool = True
    log: Log = field(default_factory=Log)
    nat_address: Address | None = None
    nat_ports: tuple[int, int] | None = None
    nat_excludes_hosts: bool = False
    nat_interfaces: str = ""
    keep_pod_addresses: bool = False  # keep other programs' rules from rewriting pod-to-pod sources
    nftables: Literal["Auto", "Enabled", "Disabled"] = "Auto"
    iptables: Literal["Auto", "Legacy", "NFT"] = "Auto"


def of(values: Mapping[str, Any]) -> PolicySettings:
    default = PolicySettings()

    def get(name: str, otherwise: Any) -> Any:
        value = values.get(name)
        return otherwise if value is None else value

    address = get("natOutgoingAddress", "")
    return PolicySettings(
        interfaces=tuple(get("interfacePrefix", default.interfaces)),
        ipip=get("ipipEnabled", None),
        vxlan=get("vxlanEnabled", None),
        vxlan_port=get("vxlanPort", default.vxlan_port),
        pods_may_ipip=get("allowIPIPPacketsFromWorkloads", False),
        pods_may_vxlan=get("allowVXLANPacketsFromWorkloads", False),
        to_host=get("defaultEndpointToHostAction", default.to_host),
        deny=get("iptablesFilterDenyAction", default.deny),
        service_loop=get("serviceLoopPrevention", default.service_loop),
        external_nodes=tuple(get("externalNodesList", ())),
        may_spoof=get("workloadSourceSpoofing", "Disabled") == "Any",
        check_invalid=not get("disableConntrackInvalidCheck", False),
        mark_mask=get("iptablesMarkMask", default.mark_mask),
        insert=get("chainInsertMode", "Insert") == "Insert",
        log=Log(
            get("logPrefix", default.log.prefix),
            get("logActionRateLimit", default.log.rate),
            get("logActionRateLimitBurst", default.log.burst),
        ),
        nat_address=ip_address(address) if address else None,
        nat_ports=get("natPortRange", None),
        nat_excludes_hosts=get("natOutgoingExclusions", "IPPoolsOnly") == "IPPoolsAndHostIPs",
        nat_interfaces=get("iptablesNATOutgoingInterfaceFilter", ""),
        keep_pod_addresses=get("keepPodAddresses", False),
        nftables=get("nftablesMode", default.nftables),
        iptables=get("iptablesBackend", default.iptables),
    )
