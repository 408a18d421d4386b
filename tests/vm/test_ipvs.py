"""kube-proxy in ipvs mode, with the kernel's own IPVS: policy decides about the pods behind services all the same.

One node with pods A, B and C and a host outside, as in tests/kernel/policy; the services are what kube-proxy would make.
The node is made once, and each backend's agent goes on from one test's world to the next: the guest is slow.
"""

import socket
from contextlib import contextmanager
from dataclasses import replace

import pytest

from felixlite.addresses import Prefix
from felixlite.model.policy import Direction
from felixlite.policy.inputs import KUBE_IPVS
from felixlite.policy.settings import PolicySettings
from felixlite.reconcile import Reconciler
from tests.support.netns import connect, namespace
from tests.support.policylab import one_cpu, policy_lab
from tests.support.policyworld import B_TO_A, NODE, OUTSIDE, POOL, A, Agent, B, C, udp
from tests.unit.policy.world import entity, inputs, policy, rule

SERVICE, SERVICE6, ELSEWHERE, ON_NODE = "10.96.0.10", "fd00:96::a", "10.96.0.11", "10.96.0.12"
ADDRESSES = (SERVICE, SERVICE6, ELSEWHERE, ON_NODE)
NODE_PORT, BACKEND = 30080, 8080
SERVICES = f"""\
-A -u {SERVICE}:80 -s rr
-a -u {SERVICE}:80 -r 10.65.0.1:{BACKEND} -m
-A -t {SERVICE}:80 -s rr
-a -t {SERVICE}:80 -r 10.65.0.1:{BACKEND} -m
-A -u [{SERVICE6}]:80 -s rr
-a -u [{SERVICE6}]:80 -r [fd00::1]:{BACKEND} -m
-A -u {NODE}:{NODE_PORT} -s rr
-a -u {NODE}:{NODE_PORT} -r 10.65.0.1:{BACKEND} -m
-A -u {ELSEWHERE}:80 -s rr
-a -u {ELSEWHERE}:80 -r {OUTSIDE}:{BACKEND} -m
-A -u {ON_NODE}:80 -s rr
-a -u {ON_NODE}:80 -r {NODE}:{BACKEND} -m
"""
EGRESS = frozenset({Direction.EGRESS})
PODS = [replace(pod, mac=f"02:00:00:00:00:0{number}") for number, pod in enumerate((A, B, C), 1)]
B_TO_SERVICE, C_TO_SERVICE = udp("10.65.0.2", SERVICE), udp("10.65.0.3", SERVICE)
B_TO_SERVICE6, C_TO_SERVICE6 = udp("fd00::2", SERVICE6), udp("fd00::3", SERVICE6)


def world(*policies, ipvs=ADDRESSES, pods=PODS, **settings):
    """A takes from B; what the pods send is judged by the other policies, and allowed when there are none."""
    sending = policies or (policy("out", selector="app != 'a'", types=EGRESS, egress=(rule(),)),)
    to_a = policy("a", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),))
    found = inputs(pods, [to_a, *sending], pools={"pool": POOL}, settings=PolicySettings(**settings))
    return replace(found, ipvs=None if ipvs is None else frozenset(Prefix.parse(address) for address in ipvs))


def egress_of_b(*rules):
    return policy("b", selector="app == 'b'", types=EGRESS, egress=rules)


@pytest.fixture(scope="module", params=["nftables", "legacy", "nft"])
def backend(request):
    return request.param


@pytest.fixture(autouse=True, scope="module")
def the_modules_are_loaded():
    """Their settings are there before anybody uses them."""
    with namespace("fi-load") as space:
        space.command("modprobe", "-a", "nf_conntrack", "nf_conntrack_netlink", "ip_vs", "ip_vs_rr")


@pytest.fixture(scope="module")
def lab():
    one_cpu()
    with namespace("fi") as outside, policy_lab("fi", PODS) as lab:
        node = lab.node
        connect(node, "eth0", outside, "eth0")
        node.ip(f"address add {NODE}/24 dev eth0")
        outside.ip(f"address add {OUTSIDE}/24 dev eth0")
        lab.add("node", node, NODE)
        lab.add("outside", outside, OUTSIDE)
        node.ip(f"link add {KUBE_IPVS} type dummy")
        for address in ADDRESSES:
            node.ip(f"address add {Prefix.parse(address)} dev {KUBE_IPVS}")
        node.command("ipvsadm", "-R", stdin=SERVICES)
        node.command("sysctl", "-qw", "net.ipv4.vs.conntrack=1")
        lab.by_address |= {SERVICE: "a", SERVICE6: "a", ELSEWHERE: "outside", ON_NODE: "node"}
        yield lab


@pytest.fixture(scope="module")
def agent(lab, backend):
    agent = Agent(lab, backend)
    yield agent
    cleaner = Reconciler(lab.tables(backend))
    lab.apply(cleaner, {"policy/4": ({},), "policy/6": ({},)})


@contextmanager
def echo(space, address, port=BACKEND, kind=socket.SOCK_DGRAM):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with space.run(socket.socket, family, kind) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the backend before has left a connection
        server.bind((address, port))
        server.settimeout(20.0)
        yield server


def answered(space, server, address, port=80, patience=20.0):
    """Whether a datagram came there and its answer came back from where it was sent to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with space.run(socket.socket, family, socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        server.settimeout(patience)
        client.connect((address, port))
        try:
            client.send(b"question")
            data, source = server.recvfrom(100)
            server.sendto(data, source)
            return client.recv(100) == b"question"
        except (TimeoutError, ConnectionRefusedError, PermissionError):
            return False


def test_the_receivers_policy_decides_about_the_pod_behind_a_service(lab, agent):
    agent.converge(world())
    probes = [B_TO_SERVICE, C_TO_SERVICE, B_TO_SERVICE6, C_TO_SERVICE6]
    passing = {B_TO_SERVICE, B_TO_SERVICE6}

    assert lab.arrived(probes, passing) == passing
    assert lab.seen_from == {B_TO_SERVICE: "10.65.0.2", B_TO_SERVICE6: "fd00::2"}
    assert agent.differences(world()) == {}


def test_answers_come_back_in_the_name_of_the_service(lab, agent):
    agent.converge(world())
    for address, backend in ((SERVICE, "10.65.0.1"), (SERVICE6, "fd00::1")):
        with echo(lab.namespaces["a"], backend) as server:
            assert answered(lab.namespaces["b"], server, address)
    with echo(lab.namespaces["a"], "10.65.0.1", kind=socket.SOCK_STREAM) as server:
        server.listen()
        with lab.namespaces["b"].run(socket.create_connection, (SERVICE, 80), 20.0) as client:
            accepted, _ = server.accept()
            with accepted:
                for text in (b"one", b"two"):
                    accepted.send(text)
                    assert client.recv(100) == text
                    client.send(text)
                    assert accepted.recv(100) == text
    lab.overlook()


def test_the_senders_policy_is_asked_about_the_pod_and_not_about_the_service(lab, agent):
    to_a = entity(selector="app == 'a'")
    agent.converge(world(egress_of_b(rule("Deny", destination=to_a), rule())))
    direct = udp("10.65.0.2", OUTSIDE)
    assert lab.arrived([B_TO_SERVICE, B_TO_SERVICE6, direct], {direct}) == {direct}

    agent.converge(world(egress_of_b(rule(destination=to_a))))
    passing = {B_TO_SERVICE, B_TO_SERVICE6}
    assert lab.arrived([*passing, direct], passing) == passing

    agent.converge(world(egress_of_b(rule(destination=entity(nets=f"{SERVICE}/32")))))
    from_c = udp("10.65.0.3", OUTSIDE)  # nothing is asked about C
    assert lab.arrived([B_TO_SERVICE, B_TO_A, from_c], {from_c}) == {from_c}


def test_the_senders_policy_is_asked_about_what_is_behind_a_service_elsewhere(lab, agent):
    to_service = udp("10.65.0.2", ELSEWHERE)
    agent.converge(world(egress_of_b(rule("Deny", destination=entity(nets=f"{OUTSIDE}/32")), rule())))
    assert lab.arrived([to_service, B_TO_SERVICE], {B_TO_SERVICE}) == {B_TO_SERVICE}

    agent.converge(world(egress_of_b(rule(destination=entity(nets=f"{OUTSIDE}/32")))))
    assert lab.arrived([to_service, B_TO_SERVICE], {to_service}) == {to_service}
    assert lab.seen_from == {to_service: NODE}  # natOutgoing


def test_the_node_itself_reaches_pods_by_their_services(lab, agent):
    agent.converge(world())
    from_node = udp(NODE, SERVICE)

    assert lab.arrived([from_node, C_TO_SERVICE], {from_node}) == {from_node}


def test_what_comes_from_outside_through_a_node_port_meets_the_pods_policy(lab, agent):
    lab.by_address[NODE] = "a"
    through = udp(OUTSIDE, NODE, NODE_PORT)
    try:
        agent.converge(world())
        assert lab.arrived([through, B_TO_SERVICE], {B_TO_SERVICE}) == {B_TO_SERVICE}
        open_to_all = policy("open", selector="app == 'a'", ingress=(rule(),))
        agent.converge(world(open_to_all))
        assert lab.arrived([through], {through}) == {through}
    finally:
        lab.by_address[NODE] = "node"


LOOP_BACK = """\
table ip kube-proxy {
    chain nat-postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.65.0.1 ip daddr 10.65.0.1 masquerade
    }
}
"""


def test_a_pod_that_calls_itself_by_a_service_is_asked_about_like_any_other(lab, agent):
    """It goes out and comes back, with the node's address, for from itself it would take nothing."""
    hairpin = udp("10.65.0.1", SERVICE)
    from_itself = policy("self", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'a'")),))
    lab.node.command("nft", "-f", "-", stdin=LOOP_BACK)
    try:
        for keep in (False, True):
            agent.converge(world(keep_pod_addresses=keep))
            assert lab.arrived([hairpin]) == set()
            agent.converge(world(from_itself, keep_pod_addresses=keep))
            assert lab.arrived([hairpin], [hairpin]) == {hairpin}
            assert lab.seen_from == {hairpin: NODE}
    finally:
        lab.node.command("nft", "delete", "table", "ip", "kube-proxy")


@pytest.mark.parametrize("action", ["Drop", "Accept"])
def test_what_pods_send_to_the_node_follows_the_endpoint_to_host_action(lab, agent, action):
    """By its own address, by a service with a backend in the node's network, by a port that no service has."""
    agent.converge(world(to_host=action))
    for address, backend, port, listening in (
        (NODE, NODE, BACKEND, BACKEND),
        (ON_NODE, NODE, 80, BACKEND),
        (SERVICE, SERVICE, 22, 22),
    ):
        with echo(lab.node, backend, listening) as server:
            patience = 20.0 if action == "Accept" else 0.3  # on the way there is nothing that waits
            assert answered(lab.namespaces["b"], server, address, port, patience) == (action == "Accept")
    assert lab.arrived([B_TO_SERVICE, C_TO_SERVICE], {B_TO_SERVICE}) == {B_TO_SERVICE}


def test_a_mac_that_is_not_the_pods_own_gets_nowhere(lab, agent):
    stranger = replace(PODS[1], mac="02:00:00:00:00:99")
    agent.converge(world(pods=[PODS[0], stranger, PODS[2]]))

    from_c = udp("10.65.0.3", OUTSIDE)
    assert lab.arrived([B_TO_SERVICE, B_TO_A, from_c], {from_c}) == {from_c}


def test_the_mode_comes_and_goes_and_leaves_what_was_before(lab, agent):
    without = world(ipvs=None)
    agent.converge(without)
    assert lab.arrived([B_TO_SERVICE, B_TO_A], {B_TO_A}) == {B_TO_A}
    agent.converge(world())
    assert lab.arrived([B_TO_SERVICE, C_TO_SERVICE], {B_TO_SERVICE}) == {B_TO_SERVICE}
    restarted = Agent(lab, agent.tables[0].backend)
    assert restarted.differences(world()) == {}
    restarted.converge(without)
    assert lab.arrived([B_TO_SERVICE, B_TO_A], {B_TO_A}) == {B_TO_A}
    assert restarted.differences(without) == {}
    agent.reconciler.distrust()
