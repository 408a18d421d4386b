"""What an agent promises, on real ones: it heals, it leaves others alone, it comes back, it goes on without the store."""

import json
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from felixlite.cli.metrics_page import families
from felixlite.lab import world
from tests.support.docpages import ROOT

OTHERS = "198.51.100.0/24"


def routes(lab, node, *more):
    return world.run(["ip", "route", "show", *more], namespace=lab.machine(node).namespace)


def ip(lab, node, *words):
    return world.run(["ip", "-n", lab.machine(node).namespace, *words])


def agent_pid(lab, node):
    return int(lab.status(node)["pid"])


def remote_block(lab, node):
    return next(line.split()[0] for line in routes(lab, node, "proto", "80").splitlines() if " via " in line)


@contextmanager
def watching(lab, node):
    """What happens to the IPv4 routes, addresses and rules of a node while the body runs."""
    command = world.inside(lab.machine(node).namespace, ["ip", "-4", "-o", "monitor", "route", "address", "rule"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
        time.sleep(0.2)  # until it listens; it says nothing when it begins
        seen = []
        yield seen
        monitor.terminate()
        seen += monitor.stdout.read().splitlines()


@contextmanager
def traffic(lab):
    from felixlite.lab.traffic import Traffic

    with Traffic(lab.pod_places()) as flowing:
        yield flowing


def restart(lab, node, number=signal.SIGTERM):
    world.signal_and_wait(agent_pid(lab, node), number)
    lab.start_agent(lab.machine(node))
    lab.wait_for_agent(lab.machine(node))


def test_every_pod_reaches_everybody_and_is_seen_as_who_it_should_be(lab):
    assert [cell for cell in lab.ping(count=3) if not cell.is_right] == []


def test_a_route_deleted_by_hand_is_back_within_a_second(lab):
    block = remote_block(lab, "n1")
    ip(lab, "n1", "route", "delete", block)

    world.wait_for(lambda: "via" in routes(lab, "n1", block), "the route's return", 1.0)


def test_a_route_replaced_by_hand_is_the_operators_until_he_removes_it(lab):
    block = remote_block(lab, "n1")
    before = routes(lab, "n1", block)
    ip(lab, "n1", "route", "replace", "blackhole", block)
    world.wait_for(
        lambda: "another program's route" in str(lab.status("n1")["degraded"]), "the conflict in status", 2.0
    )
    assert "blackhole" in routes(lab, "n1", block)

    ip(lab, "n1", "route", "delete", block)
    world.wait_for(lambda: routes(lab, "n1", block) == before, "the agent's own route", 10.0)


def test_a_foreign_route_survives_resync_restart_and_changes(lab):
    ip(lab, "n1", "route", "add", OTHERS, "via", "10.0.1.1", "proto", "static")
    try:
        restart(lab, "n1")
        ip(lab, "n1", "route", "delete", remote_block(lab, "n1"))
        world.wait_for(lambda: "via" in routes(lab, "n1", "proto", "80"), "healing", 2.0)
        assert "via 10.0.1.1" in routes(lab, "n1", OTHERS)
    finally:
        ip(lab, "n1", "route", "delete", OTHERS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_agent_finds_nothing_to_write_and_loses_no_packet(lab, number):
    with watching(lab, "n1") as seen, traffic(lab) as flowing:
        restart(lab, "n1", number)

    assert seen == []
    assert flowing.lost == 0


def test_a_restarted_agent_keeps_what_only_bgp_told_it_until_it_is_told_again(lab):
    outside = "203.0.113.0/24"
    world.wait_for(lambda: "via 10.0.1.1" in routes(lab, "n1", outside), "the router's network", 20)

    with watching(lab, "n1") as seen:
        restart(lab, "n1", signal.SIGKILL)
        world.wait_for(
            lambda: lab.status("n1")["sessions"].get("10.0.1.1", {}).get("state") == "Established", "BGP", 30
        )
        world.wait_for(lambda: lab.status("n1")["learned"] >= 3, "what the router says", 30)

    assert [line for line in seen if "203.0.113" in line] == []


def test_without_the_store_routes_stay_and_news_arrive_when_it_is_back(lab):
    (etcd,) = [pid for pid in world.processes(lab.topology.switch) if world.command_of(pid).startswith("etcd ")]
    before = routes(lab, "n2", "proto", "80")
    with watching(lab, "n2") as seen, traffic(lab) as flowing:
        world.signal_and_wait(etcd, signal.SIGKILL)
        time.sleep(3)
        assert routes(lab, "n2", "proto", "80") == before
        lab.start_etcd()
        world.wait_for(lambda: lab.status("n2")["sources"]["store"]["detail"].startswith("watching"), "the watch", 30)
    assert seen == []
    assert flowing.lost == 0

    pool = {
        "kind": "IPPool",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "second"},
        "spec": {"cidr": "10.99.0.0/16"},
    }
    lab.felixlite("create", "-f", "-", stdin=json.dumps(pool))
    try:
        world.wait_for(lambda: "second" in lab.status("n2")["pools"], "the new pool", 10)
    finally:
        lab.felixlite("delete", "ippool", "second")


def test_plan_tells_what_a_change_would_do_and_does_nothing(lab, tmp_path):
    change = tmp_path / "pool.yaml"
    change.write_text(
        lab.felixlite("get", "ippool", "default-ipv4-ippool", "-o", "yaml").replace("CrossSubnet", "Always")
    )
    before = routes(lab, "n1", "proto", "80")

    done = subprocess.run(
        [*world.inside(lab.machine("n1").namespace, lab.command), "plan", "-f", str(change), "--run-dir", str(lab.run_directory("n1"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    assert "~ routes        ip route replace 10.244." in done.stdout
    assert "dev tunl0 onlink proto 80" in done.stdout
    assert routes(lab, "n1", "proto", "80") == before


def http(lab, node, port, path):
    code = f"import urllib.request as u; print(u.urlopen('http://localhost:{port}{path}', timeout=5).read().decode())"
    return world.run(["python3", "-c", code], namespace=lab.machine(node).namespace)


def test_the_lab_says_what_carries_ipip_here(lab, told):
    made = [
        "ip",
        "-n",
        lab.topology.switch,
        "link",
        "add",
        "ipip9",
        "type",
        "ipip",
        "local",
        "192.0.2.1",
        "remote",
        "192.0.2.2",
    ]
    kernel_can = subprocess.run(made, capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "-n", lab.topology.switch, "link", "del", "ipip9"], capture_output=True, check=False)

    assert kernel_can == any("IPIP is carried by kernel" in line for line in told)
    assert any(f"IPIP is carried by {lab.status('n1')['ipip']}" in line for line in told)


def test_health_is_served_and_metrics_once_they_are_switched_on(lab):
    assert "every table has converged" in http(lab, "n1", 9099, "/readiness")
    assert "takes part in life" in http(lab, "n1", 9099, "/liveness")

    on = {"kind": "FelixConfiguration", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "default"},
          "spec": {"prometheusMetricsEnabled": True, "logFormat": "JSON"}}  # fmt: skip
    pid = agent_pid(lab, "n1")
    lab.felixlite("apply", "-f", "-", stdin=json.dumps(on))
    try:
        world.wait_for(
            lambda: "9091" in world.run(["ss", "-ltn"], namespace=lab.machine("n1").namespace), "the metrics", 5
        )
        text = http(lab, "n1", 9091, "/metrics")
        assert 'felixlite_table_rows{table="routes"}' in text
        assert 'felix_host{host="n1"} 1.0' in text
        assert "felix_cluster_num_hosts 3.0" in text
        described = (ROOT / "docs" / "metrics.md").read_text()
        assert [name for name in families(text) if f"`{name}" not in described] == []
        ip(lab, "n1", "route", "delete", remote_block(lab, "n1"))  # its healing is an event
        log = lab.directory / "n1.log"
        world.wait_for(lambda: '{"time": "' in log.read_text(), "a line of JSON in the log", 30)
        assert agent_pid(lab, "n1") == pid
    finally:
        lab.felixlite("delete", "felixconfiguration", "default")


def test_a_node_whose_address_changes_tells_the_others(lab):
    block = remote_block_of(lab, "n1", "n3")

    def move(old, new):
        """The default route goes with the old address, as it does when a person does this."""
        ip(lab, "n3", "address", "delete", f"{old}/24", "dev", "eth0")
        ip(lab, "n3", "address", "add", f"{new}/24", "dev", "eth0")
        ip(lab, "n3", "route", "add", "default", "via", "10.0.1.1")
        world.wait_for(lambda: f"via {new} " in routes(lab, "n1", block), f"the route to {new}", 30)

    move("10.0.1.13", "10.0.1.99")
    move("10.0.1.99", "10.0.1.13")
    lab.wait_until_green()


def remote_block_of(lab, node, other):
    address = str(lab.machine(other).address)
    return next(line.split()[0] for line in routes(lab, node, "proto", "80").splitlines() if f"via {address} " in line)


def test_an_address_that_another_node_has_is_refused_at_start(lab, tmp_path):
    command = [
        *lab.command,
        "agent",
        "--node-name",
        "impostor",
        "--run-dir",
        str(tmp_path),
        "--state-dir",
        str(tmp_path),
        "--ip",
        "10.0.1.11",
    ]
    done = subprocess.run(
        world.inside(lab.machine("n1").namespace, command), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert "address 10.0.1.11 is already that of Node n1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_status_of_the_cluster_comes_from_the_store_and_names_what_is_odd(lab):
    def told():
        done = subprocess.run(
            world.inside(lab.topology.switch, [*lab.command, "status", "--cluster", "-o", "json"]),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, {row["node"]: row for row in json.loads(done.stdout)}

    world.wait_for(lambda: told()[0] == 0, "every node's being ready in the store", 60, every=0.5)
    code, rows = told()
    assert (code, sorted(rows)) == (0, ["n1", "n2", "n3"])
    assert {row["agent"] for row in rows.values()} == {"ready"}
    assert (rows["n2"]["address"], rows["n2"]["pods"], "ipip" in rows["n2"]["accepts"]) == ("10.0.2.12", 2, True)

    twin = {**lab.node_document(lab.machine("n1")), "metadata": {"name": "twin"}}
    lab.felixlite("apply", "-f", "-", stdin=json.dumps(twin))
    try:
        code, rows = told()
        assert code == 1
        assert "shares 10.0.1.11 with another node" in rows["twin"]["problems"][0]
    finally:
        lab.felixlite("delete", "node", "twin")


def test_a_node_reports_its_sessions_to_whoever_asks_and_another_one_reads_them(lab):
    asked = {
        "kind": "CalicoNodeStatus",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "how-is-n1"},
        "spec": {"node": "n1", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 1},
    }
    lab.felixlite("create", "-f", "-", stdin=json.dumps(asked))
    try:

        def report():
            said = json.loads(lab.felixlite("get", "caliconodestatus", "how-is-n1", "-o", "json"))
            return said.get("status") or {}

        def established():
            peers = report().get("bgp", {}).get("peersV4", ())
            return {peer["peerIP"] for peer in peers if peer["state"] == "Established"}

        def in_kernel(prefix):
            told = report().get("routes", {}).get("routesV4", ())
            return any(route["destination"] == prefix and route["type"] == "FIB" for route in told)

        world.wait_for(lambda: "10.0.1.1" in established(), "the report", 30)
        world.wait_for(lambda: in_kernel("203.0.113.0/24"), "the router's network in the report", 30)
        told = report()
        assert told["agent"]["birdV4"]["state"] == "Ready"
        own = {route["destination"] for route in told["routes"]["routesV4"] if route["interface"] == "blackhole"}
        assert own & set(routes(lab, "n1", "type", "blackhole").replace("blackhole", "").split())
        peers = json.loads(lab.felixlite("bgp", "peers", "--node", "n1", "-o", "json"))
        assert "10.0.1.1" in {peer["peer"] for peer in peers if peer["state"] == "Established"}
        assert "10.0.1.1" in lab.felixlite("node", "status", "--node", "n1")
        learned = json.loads(lab.felixlite("bgp", "routes", "--node", "n1", "-o", "json"))
        (outside,) = [route for route in learned if route["prefix"] == "203.0.113.0/24"]
        assert outside["in_kernel"]
        assert outside["hops"] == outside["from"] == ["10.0.1.1"]
    finally:
        lab.felixlite("delete", "caliconodestatus", "how-is-n1")
