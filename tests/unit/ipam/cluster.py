"""A small cluster in order: what the check and the collection are tried on."""

import copy

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key
from felixlite.ipam import blocks, documents
from felixlite.ipam.check import check
from felixlite.ipam.repair import Repair, read_facts
from tests.unit.ipam.world import World, wants

OLD = 10_000.0


class Cluster(World):
    """Three pods on two nodes, a tunnel address, and everything in order."""

    def __init__(self) -> None:
        super().__init__()
        pool = {"cidr": "10.0.0.0/24", "blockSize": 26}
        self.put(Key("IPPool", "default"), {"spec": pool}, api="projectcalico.org/v3")
        for node in ("n1", "n2"):
            self.put(Key("Node", node), {"spec": {}})
        for pod, node in (("a", "n1"), ("b", "n1"), ("c", "n2")):
            (address,) = self.node(node).assign(wants(f"k8s-pod-network.{pod}{pod}", node=node, pod=pod)).addresses
            self.endpoint(pod, node, address, f"{pod}{pod}")
        request = wants("ipip-tunnel-addr-n1", about={"node": "n1", "type": "ipipTunnelAddress"})
        (self.tunnel,) = self.node().assign(request).addresses
        self.edit(Key("Node", "n1"), lambda spec: spec.update(bgp={"ipv4IPIPTunnelAddr": str(self.tunnel.first)}))
        self.now += OLD

    def put(self, key, document, api="v1"):
        self.store.create(key, {"apiVersion": api, "kind": key.kind, "metadata": {"name": key.name}, **document})

    def endpoint(self, pod, node, address, container):
        spec = {"node": node, "pod": pod, "containerID": container, "ipNetworks": [str(address)]}
        self.put(Key("WorkloadEndpoint", f"{node}-k8s-{pod}-eth0", "ns"), {"spec": spec})

    def edit(self, key, change):
        entry = self.store.get(key)
        document = copy.deepcopy(entry.document)
        change(document["spec"])
        self.store.update(key, document, entry.revision)

    def block(self, node="n1"):
        return next(ledger for ledger in self.ledgers() if ledger.node == node)

    def edit_block(self, change, node="n1"):
        self.edit(documents.block_key(self.block(node).cidr), change)

    def address_of(self, pod):
        (entry,) = [e for e in self.store.list("WorkloadEndpoint").entries if e.document["spec"]["pod"] == pod]
        return Prefix.parse(entry.document["spec"]["ipNetworks"][0])

    def findings(self):
        return check(read_facts(self.store), self.now)

    def codes(self):
        return {finding.code for finding in self.findings()}

    def fix(self):
        for _ in range(4):
            for finding in self.findings():
                if finding.fix:
                    Repair(self.store, lambda: self.now).apply(finding.fix)

    def live(self):
        """Who holds the addresses of the endpoints and of the tunnel."""
        held = {}
        for ledger in self.ledgers():
            for ordinal, attribute in blocks.in_use(ledger):
                held[ledger.prefix(ordinal)] = blocks.handle_of(attribute)
        return {a: held.get(a) for a in (*map(self.address_of, "abc"), self.tunnel)}
