"""Two nodes with policy on nftables and a pod each, whose routes, tunnels and filters are ours: stations, with filters."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from felixlite.ipip.plan import Carrier
from felixlite.lab.traffic import DATAGRAMS, MESSAGES
from felixlite.model.inside import Pool
from tests.support.policylab import HOST_MAC
from tests.support.stations import Lan, stations
from tests.unit.policy.world import BOTH, entity, pod, policy, rule

IPERF = 5201


@contextmanager
def guarded_stations(carriers: Iterable[Carrier], pool: Pool, prefix: str) -> Iterator[Lan]:
    """Pods may send anything, and get what lab/traffic.py and iperf3 send; nobody answers at the default gateway."""
    with stations(carriers, pool, prefix, filters=True) as lan:
        for number, (name, space) in enumerate(lan.spaces.items(), 1):
            lan.pods[name].ip(f"neighbour replace 169.254.1.1 dev eth0 lladdr {HOST_MAC} nud permanent")
            space.ip("route add default via 192.168.50.254 dev eth0")
            space.ip(f"route delete 10.65.{number}.10/32")  # the planner's now
            lan.workloads = {**lan.workloads, ("default", name): pod("1", f"10.65.{number}.10/32", node=name)}
        known = [(17, DATAGRAMS), (6, MESSAGES), (17, IPERF), (6, IPERF)]
        allowed = tuple(rule(protocol=number, destination=entity(ports=str(port))) for number, port in known)
        only = policy("only-known", types=BOTH, ingress=allowed, egress=(rule(),))
        lan.policies = {("NetworkPolicy", "default", only.name): only}
        yield lan
