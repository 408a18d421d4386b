"""All that this node wants, from all that it knows: the planners of the features side by side, pure but for a memory.

Each slice of the plan names the inputs it reads; it is computed again only when one of them is a different object
(snapshots share what did not change).  A planner never calls a planner; what one needs of another is passed here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from felixlite import config
from felixlite.addresses import Prefix
from felixlite.bgp import announcing, services
from felixlite.bgp import plan as bgp
from felixlite.bgp.sessions import SOURCE as BGP
from felixlite.cni import plan as cni
from felixlite.cni.names import is_interface_name
from felixlite.config import Settings
from felixlite.errors import FelixliteError
from felixlite.ipam import plan as ipam
from felixlite.ipip import devices, switch, why
from felixlite.ipip import plan as ipip
from felixlite.ipip.devices import Mtus, Tunnel
from felixlite.ipip.plan import Carrier, Ground
from felixlite.loop import Planned
from felixlite.model.effective import bgp_configuration
from felixlite.model.inside import BgpConfiguration, BgpPeer, Node, Pool, Workload
from felixlite.policy import fastpath
from felixlite.policy import settings as policy_settings
from felixlite.policy.inputs import KUBE_IPVS, Inputs, behind_ipvs
from felixlite.policy.plan import Planner as PolicyPlanner
from felixlite.policy.plan import PolicyPlan
from felixlite.policy.rows import Tunnel as PolicyTunnel
from felixlite.remember import PerKey, Remembered, Settled
from felixlite.rows import OuterHeader, Route, RouteKey
from felixlite.snapshot import Learned, LinkState, Snapshot

V = TypeVar("V")
NO_FAST_PATH: Final[Mapping[Any, Any]] = {}
Slices = tuple[Mapping[Any, Any], ...]
Published = tuple[frozenset[str], frozenset[str]]  # the tunnels that this node accepts, and those that it sends through


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is given to the process and never changes while it runs."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    carrier: Carrier = Carrier.KERNEL
    ipv6: bool = True  # whether the kernel has it
    patient: bool = True  # False: plan as if every node accepted everything already
    fast_path_fault: Callable[[], str] = lambda: ""  # why the kernel has no fast path; asked once somebody wants one


class NodePlanner:
    """All planners of one node, with the memory that spares work; forgetting it changes nothing but the time taken."""

    def __init__(self, given: Surroundings) -> None:
        self.given = given
        self.progress = switch.Progress()
        self.ground: Ground | None = None
        self.last = Planned({}, may_remove=False)
        self.published: Published = (frozenset(), frozenset())
        self.mtus: Mtus | None = None
        self._forget()

    def _forget(self) -> None:
        """All that only spares work; where encapsulations are on their way stays known."""
        self.published_of = Settled(_published)
        self.settings_of = Remembered(config.effective)
        self.own_links = Settled(_not_of_pods)
        self.uplinks = Settled(ipip.uplinks)
        self.uplink_names = Remembered(_values)
        self.tunnel_mtus = Remembered(_tunnel_mtus)
        self.outer_header = Remembered(_outer_header)
        self.reach = Settled(ipip.reach)
        self.mtus_of = Settled(devices.mtus)
        self.owners = Remembered(ipip.owners)
        self.pools = Remembered(_values)
        self.ground_of = Remembered(Ground)
        self.links = Settled(devices.links)
        self.addresses = Settled(devices.addresses)
        self.sysctls = Settled(devices.sysctls)
        self.neighbours = Remembered(devices.neighbours)
        self.forwarding = Remembered(devices.forwarding)
        self.ends = Settled(devices.ends)
        self.forwarders = Settled(devices.forwarders)
        self.addressed = Settled(devices.addressed)
        self.classifiers = Settled(devices.classifiers)
        self.blackholes = Remembered(ipam.blackholes)
        self.by_block = PerKey[Prefix, Any](ipip.block_routes)
        self.covered = PerKey[Prefix, Any](ipip.covered)
        self.by_bgp = PerKey[Prefix, Any](ipip.inside_routes)
        self.outside = PerKey[Prefix, Any](ipip.outside_routes)
        self.workloads = Remembered(_workloads)
        self.workload_slices = {table: Settled(_same) for table in cni.Wanted._fields}
        self.host_sysctls = Settled(_host_sysctls)
        self.bgp_configuration = Remembered(bgp_configuration)
        self.guards = Remembered(_guards)
        self.peering = Remembered(bgp.peers)
        self.gateways = Settled(_gateways)
        self.announcements = Remembered(announcing.announcements)
        self.services = Settled(services.addresses)
        self.service_ranges = Remembered(services.named)
        self.told_on = Remembered(_learned_of_pools)
        self.policy = PolicyPlanner()
        self.policy_settings = Remembered(_policy_settings)
        self.behind_ipvs = Settled(behind_ipvs)
        self.fast_path = Settled(fastpath.fast_path)
        self.by_block_less = Remembered(ipip.less)
        self.by_bgp_less = Remembered(ipip.less)
        self.blackholes_less = Remembered(ipip.less)
        self.gateways_less = Remembered(ipip.less)

    def settings(self, snapshot: Snapshot) -> Settings:
        return self.settings_of(self.given.flags, self.given.environment, snapshot.felix_configurations, snapshot.here)

    def __call__(self, snapshot: Snapshot, now: float) -> Planned:
        try:
            return self._plan(snapshot, now)
        except Exception:
            self._forget()  # half of it may be of this snapshot
            raise

    def _plan(self, snapshot: Snapshot, now: float) -> Planned:
        here = snapshot.nodes.get(snapshot.here)
        if here is None:
            return self._without_a_node(snapshot)
        settings = self.settings(snapshot)
        mtus, ground = self._step(snapshot, now, here, settings)
        self.mtus = mtus
        policy = self._policy(snapshot, ground, settings)
        pods = self._pods(snapshot, ground, mtus)
        tunnels = self._tunnels(snapshot, ground, mtus, settings)
        configuration = self.bgp_configuration(snapshot.bgp_configurations, snapshot.here)
        peering = self._peering(snapshot, here, configuration)
        tables = {
            **policy.tables,
            **tunnels,
            "links": (*tunnels["links"], pods["links"]),
            "sysctls": (self.host_sysctls(settings, self.given.ipv6), *tunnels["sysctls"], pods["sysctls"]),
            "neighbours": (*tunnels["neighbours"], pods["neighbours"]),
            "routes": self._routes(snapshot, ground, pods["routes"], configuration),
            "bgp peers": (peering.rows,),
            "announcements": (self._announcements(snapshot, here, peering, configuration),),
            "pod mtus": (pods["pod_mtus"],),
            fastpath.NAME: (self._fast_path(snapshot, ground, settings),),
        }
        self.published = self.published_of(
            self.progress, here, snapshot.pools, self.own_links(snapshot.links), self.given.carrier
        )
        notes = partial(self._notes, snapshot, ground, settings, (*policy.notes, *peering.notes))
        spare = None if BGP in snapshot.in_sync else routes_to_elsewhere
        self.last = Planned(tables, notes, self.progress.ask_again_at, spare=spare)
        return self.last

    def _without_a_node(self, snapshot: Snapshot) -> Planned:
        """Go on with what was; a Node record deleted under a running agent must not cut off its pods."""
        note = f"there is no Node {snapshot.here} in the store: keeping what is in force until it is registered again"
        return Planned(self.last.tables, lambda _now: (note,), may_remove=False)

    def _step(self, s: Snapshot, now: float, here: Node, settings: Settings) -> tuple[Mtus, Ground]:
        """Move the switch of encapsulations on, and take the ground that routes are decided on."""
        patience = settings["waitForAccepts"] if self.given.patient else 0.0
        links = self.own_links(s.links)
        self.progress = switch.advance(self.progress, now, here, s.nodes, s.pools, links, patience)
        uplinks = self.uplinks(here, s.link_addresses)
        names, pattern = self.uplink_names(uplinks), settings["mtuIfacePattern"]
        mtus = self.mtus_of(self.progress.open, links, names, pattern, self.tunnel_mtus(settings))
        self.ground = self.ground_of(
            here,
            s.nodes,
            self.pools(s.pools),
            uplinks,
            self.reach(links, s.link_addresses),
            self.progress.sending,
            self.owners(s.nodes),
        )
        return mtus, self.ground

    def _policy(self, s: Snapshot, ground: Ground, settings: Settings) -> PolicyPlan:
        ends = [(tunnel, devices.tunnel_address(ground.here, tunnel)) for tunnel in sorted(self.progress.open)]
        tunnels = tuple(PolicyTunnel(devices.LINK[tunnel], address) for tunnel, address in ends if address)
        ipvs = self.behind_ipvs(KUBE_IPVS in s.links, s.link_addresses)
        return self.policy(Inputs.of(s, self.policy_settings(settings), tunnels, ipvs=ipvs))

    def _fast_path(self, s: Snapshot, ground: Ground, settings: Settings) -> Mapping[Any, Any]:
        """Pods' interfaces, and those by which their packets come from other machines."""
        if not self._wants_fast_path(settings) or self._fast_path_fault(s):
            return NO_FAST_PATH
        pods = (workload.interface for workload in s.local_workloads.values())
        tunnels = (devices.LINK[tunnel] for tunnel in self.progress.open)
        return self.fast_path(settings["interfacePrefix"], (*pods, *tunnels, *ground.uplinks.values()), s.links)

    def _wants_fast_path(self, settings: Settings) -> bool:
        return bool(settings["nftablesFlowTableOffload"] == "All")

    def _fast_path_fault(self, s: Snapshot) -> str:
        """The answers of services go through IPVS, which is in a hook: past it they would have another source."""
        if KUBE_IPVS in s.links:
            return f"kube-proxy is in ipvs mode (there is a link {KUBE_IPVS})"
        return self.given.fast_path_fault()

    def _tunnels(self, s: Snapshot, ground: Ground, mtus: Mtus, settings: Settings) -> dict[str, Slices]:
        opened, here, carrier = self.progress.open, ground.here, self.given.carrier
        vni, port = settings["vxlanVNI"], settings["vxlanPort"]
        header, links = self.outer_header(settings), self.own_links(s.links)
        addressed = self.addressed(s.link_addresses)
        return {
            "links": (self.links(opened, here, ground.uplinks, mtus, carrier, vni, port, header),),
            "addresses": (self.addresses(opened, here, s.link_addresses),),
            "sysctls": (self.sysctls(opened, links, ground.uplinks, addressed),),
            "neighbours": (self.neighbours(opened, here, s.nodes),),
            "fdb": (self.forwarding(opened, here, s.nodes),),
            "ipip ends": (self.ends(opened, here, s.nodes, settings["externalNodesList"], carrier, header),),
            "forwarders": (self.forwarders(opened, carrier, header),),
            "classifiers": (self.classifiers(opened, links, ground.uplinks, addressed, carrier),),
        }

    def _pods(self, s: Snapshot, ground: Ground, mtus: Mtus) -> dict[str, Mapping[Any, Any]]:
        uplink_is_up = any(link.up for name in ground.uplinks.values() if (link := s.links.get(name)))
        mtu = mtus.pod if uplink_is_up else None  # without one it is a guess, and no reason to lower anything
        wanted = self.workloads(s.local_workloads, s.links, mtu, ground.uplinks, self.given.ipv6)
        return {table: settled(getattr(wanted, table)) for table, settled in self.workload_slices.items()}

    def _routes(self, s: Snapshot, ground: Ground, pods: Mapping[Any, Any], configuration: BgpConfiguration) -> Slices:
        """Whoever has the better claim to a destination comes first: own pods, the store about blocks, then BGP."""
        service_ranges = self.service_ranges(configuration)
        by_block = self.by_block(s.blocks, ground)
        own = self.blackholes(s.here, s.affinities)
        by_bgp = self.by_bgp(self.covered(s.learned, ground.pools), ground)
        outside = self.outside(s.learned, ground.pools, ground.reach, configuration.route_priority, service_ranges)
        return (
            pods,
            self.blackholes_less(own, by_block, pods),
            self.by_block_less(by_block, pods),
            self.by_bgp_less(by_bgp, by_block, own, pods),
            outside,
            self.gateways_less(self.gateways(ground.here, s.bgp_peers), pods, own, by_block, by_bgp),
        )

    def _peering(self, s: Snapshot, here: Node, configuration: BgpConfiguration) -> bgp.Peering:
        guards = self.guards(self.settings(s))
        return self.peering(here, s.nodes, s.bgp_peers, configuration, s.bgp_filters, s.secrets, guards)

    def _announcements(
        self, s: Snapshot, here: Node, peering: bgp.Peering, configuration: BgpConfiguration
    ) -> Mapping[Any, Any]:
        """Without filters that say otherwise, only a reflector passes on what no pool covers; a full table is spared."""
        everything = here.cluster_id is not None or any(p.exports or p.exports_v6 for p in peering.rows.values())
        learned = s.learned if everything else self.told_on(self.covered.rows)
        published = self.services(here, s.service_addresses, s.served_here, configuration)
        return self.announcements(
            here, peering.rows, s.affinities, s.local_workloads, s.pools, configuration, learned, published
        )

    def speech(self, s: Snapshot) -> tuple[announcing.Speech, Mapping[Prefix, announcing.Candidate]]:
        """What decides about announcements, for whoever asks why."""
        here = s.nodes.get(s.here)
        if here is None:
            raise FelixliteError(f"there is no Node {s.here} in the store yet")
        configuration = self.bgp_configuration(s.bgp_configurations, s.here)
        peering = self._peering(s, here, configuration)
        found = announcing.Speech(here, tuple(s.pools.values()), configuration, peering.rows)
        published = services.addresses(here, s.service_addresses, s.served_here, configuration)
        return found, announcing.own_candidates(found, s.affinities, s.local_workloads, published)

    def _notes(
        self, s: Snapshot, ground: Ground, settings: Settings, policy: tuple[str, ...], now: float
    ) -> tuple[str, ...]:
        patience = settings["waitForAccepts"]
        waiting = switch.notes(self.progress, now, ground.here, s.nodes, s.pools, patience)
        fault = self._fast_path_fault(s) if self._wants_fast_path(settings) else ""
        slow = (f"nftablesFlowTableOffload is All, and every packet goes through the filters still: {fault}",)
        idle = (f"{kind} {name}: {words}" for (kind, name), words in s.unenforced.items())
        return (
            *settings.warnings,
            *policy,
            *_misplaced(s.local_workloads, ground.uplinks),
            *idle,
            *(slow if fault else ()),
            *waiting,
            *why.gaps(s.blocks, s.learned, ground),
        )

    def why(self, snapshot: Snapshot, prefix: Prefix) -> list[str]:
        """The decision about one destination, in words."""
        if self.ground is None:
            return ["nothing is decided yet"]
        return why.why(prefix, snapshot.blocks, snapshot.learned, self.ground)


def routes_to_elsewhere(table: str, _key: Any, row: Any) -> bool:
    """What the agent before us may have learned stays until the peers had their say again."""
    return table == "routes" and isinstance(row, Route) and any(hop.gateway for hop in row.hops)


def _values(mapping: Mapping[Any, V]) -> tuple[V, ...]:
    return tuple(mapping.values())


def _not_of_pods(links: Mapping[str, LinkState]) -> Mapping[str, LinkState]:
    """A pod comes or goes: of that nothing that leads out of the node has to know."""
    return {name: link for name, link in links.items() if not is_interface_name(name)}


def _tunnel_mtus(settings: Settings) -> dict[Tunnel, int]:
    """What is configured; 0: to be found out."""
    return {
        Tunnel.IPIP: settings["ipipMTU"],
        Tunnel.VXLAN: settings["vxlanMTU"],
        Tunnel.VXLAN_V6: settings["vxlanMTUV6"],
    }


def _outer_header(settings: Settings) -> OuterHeader:
    return OuterHeader(settings["ipipTTL"], settings["ipipPMTUDiscovery"])


def _gateways(here: Node, bgp_peers: Mapping[Any, BgpPeer]) -> dict[RouteKey, Route]:
    return bgp.gateways(here, bgp_peers.values())


def _published(
    progress: switch.Progress,
    here: Node,
    pools: Mapping[str, Pool],
    links: Mapping[str, LinkState],
    carrier: Carrier,
) -> Published:
    accepts = switch.published_accepts(progress, here, links, carrier)
    return accepts, switch.published_sends(progress, pools)


def _guards(settings: Settings) -> bgp.Guards:
    return bgp.Guards(
        settings["bgpAcceptDefaultRoute"], settings["bgpAcceptOwnSubnet"], settings["bgpMaxPrefixes"] or None
    )


def _policy_settings(settings: Settings) -> policy_settings.PolicySettings:
    return policy_settings.of({name: value.value for name, value in settings.values.items()})


def _host_sysctls(settings: Settings, ipv6: bool) -> dict[str, str]:
    """A node routes (reference 9.10)."""
    if settings["ipForwarding"] == "Disabled":
        return {}
    return {"net/ipv4/ip_forward": "1"} | ({"net/ipv6/conf/all/forwarding": "1"} if ipv6 else {})


def _same(rows: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return rows


def _learned_of_pools(covered: Mapping[Prefix, Any]) -> Mapping[Prefix, Learned]:
    return {prefix: learned for prefix, (_, learned) in covered.items()}


def _workloads(
    workloads: Mapping[Any, Workload],
    links: Mapping[str, LinkState],
    mtu: int | None,
    uplinks: Mapping[int, str],
    ipv6: bool,
) -> cni.Wanted:
    pods = [workload for workload in workloads.values() if not _is_of_the_node(workload, uplinks)]
    return cni.plan(pods, links, mtu=mtu, uplink=uplinks.get(4), ipv6=ipv6)


def _is_of_the_node(workload: Workload, uplinks: Mapping[int, str]) -> bool:
    """A WorkloadEndpoint may name any interface; those that carry the node's own traffic are no pod's."""
    return workload.interface in devices.OURS or workload.interface in uplinks.values() or workload.interface == "lo"


def _misplaced(workloads: Mapping[Any, Workload], uplinks: Mapping[int, str]) -> Iterator[str]:
    for workload in workloads.values():
        if _is_of_the_node(workload, uplinks):
            yield (
                f"WorkloadEndpoint {workload.namespace}/{workload.name}: spec.interfaceName: {workload.interface!r}: "
                "is an interface of the node itself and left alone; it must be the host's end of the pod's link"
            )
