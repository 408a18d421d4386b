"""Which backend a host gets, from what the operator says and what the host shows. Pure; backend.py looks.

nftables is the default where kube-proxy or the distribution is on nftables.  Rules in iptables can only be judged in
iptables: where the host's own FORWARD chain drops by policy (Docker), an accept in another table changes nothing, so
there we write to iptables, in the flavour that the host uses.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

Backend = Literal["nftables", "legacy", "nft"]


@dataclass(frozen=True, slots=True)
class Host:
    """What there is. Rules are those of others."""

    libnftables: bool = True
    kube_proxy_nftables: bool = False
    legacy_rules: int = 0
    nft_rules: int = 0
    default_flavour: Literal["legacy", "nft", ""] = "nft"  # of the `iptables` on the path; "" there is none
    forward_drops: bool = False  # the policy of iptables' FORWARD


class Wish(Protocol):
    """What the operator says: nftablesMode and iptablesBackend."""

    @property
    def nftables(self) -> Literal["Auto", "Enabled", "Disabled"]: ...

    @property
    def iptables(self) -> Literal["Auto", "Legacy", "NFT"]: ...


def choose(settings: Wish, host: Host) -> tuple[Backend, str]:
    """The backend, and why."""
    if settings.nftables == "Enabled":
        return "nftables", "nftablesMode is Enabled"
    if settings.nftables == "Disabled":
        return _flavour(settings, host)
    if host.kube_proxy_nftables:
        return "nftables", "kube-proxy is in nftables mode"
    if settings.iptables != "Auto":
        return _flavour(settings, host)
    if not host.libnftables:
        return _flavour(settings, host)
    if host.legacy_rules > host.nft_rules:
        return "legacy", f"{host.legacy_rules} rules of others are in iptables-legacy, {host.nft_rules} in iptables-nft"
    if host.forward_drops:
        return _flavour(settings, host)[0], "iptables' FORWARD drops by policy, which only iptables can lift for pods"
    if host.default_flavour == "legacy":
        return "legacy", "the host's iptables is the legacy one"
    return "nftables", "the host's iptables is on nftables"


def _flavour(settings: Wish, host: Host) -> tuple[Backend, str]:
    if settings.iptables == "Legacy":
        return "legacy", "iptablesBackend is Legacy"
    if settings.iptables == "NFT":
        return "nft", "iptablesBackend is NFT"
    if host.legacy_rules > host.nft_rules or host.default_flavour == "legacy":
        return "legacy", "the host's rules are in iptables-legacy"
    return "nft", "the host's rules are in iptables-nft"
