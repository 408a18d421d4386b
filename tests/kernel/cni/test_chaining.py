"""Reference plugins behind ours, as in a conflist: they do what they do, and neither CHECK nor a new agent minds."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.cni import PluginNode, eventually, nothing_is_left
from tests.support.netns import Namespace


def test_a_sysctl_that_portmap_sets_on_the_hosts_end_stays(one: PluginNode, space: Namespace) -> None:
    added = one.run("ADD", space).answer
    setting = f"/proc/sys/net/ipv4/conf/{added['interfaces'][0]['name']}/route_localnet"
    one.net.command("sh", "-c", f"echo 1 >{setting}")
    checked = one.run("CHECK", space, prevResult=added)
    assert checked.code == 0, checked.printed
    one.stop()
    one.start()
    one.loop.submit([]).result(10)
    assert one.net.command("cat", setting).strip() == "1"


def test_portmap_behind_publishes_a_port(one: PluginNode, space: Namespace) -> None:
    ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    added = one.run("ADD", space, cniVersion="1.0.0")
    chained = {
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "portmap",
        "snat": True,
        "runtimeConfig": {"portMappings": ports},
        "prevResult": added.answer,
    }
    environment = ["CNI_CONTAINERID=c1", f"CNI_NETNS={space.path}", "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni"]

    def portmap(command: str) -> str:
        words = ["env", f"CNI_COMMAND={command}", *environment, "/usr/lib/cni/portmap"]
        return one.net.command(*words, stdin=json.dumps(chained))

    assert json.loads(portmap("ADD"))["ips"] == added.answer["ips"]
    with space.process("busybox", "nc", "-l", "-p", "80", "-e", "echo", "published", stdout=subprocess.DEVNULL):
        said: list[str] = []

        def connects() -> bool:
            ask = ["sh", "-c", "echo | busybox nc -w 2 192.0.2.77 8080 || true"]
            said.append(one.net.command(*ask))
            return "published" in said[-1]

        eventually(connects)
    portmap("DEL")


BEHIND: dict[str, dict[str, Any]] = {
    "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
    "tuning": {"sysctl": {"net.core.somaxconn": "321"}},
}


@pytest.mark.parametrize("other", sorted(BEHIND))
def test_other_plugins_behind_work_and_check_finds_nothing_wrong(one: PluginNode, space: Namespace, other: str) -> None:
    added = one.run("ADD", space, cniVersion="1.0.0").answer
    chained = {"cniVersion": "1.0.0", "name": "net", "type": other, "prevResult": added, **BEHIND[other]}
    variables = ["CNI_CONTAINERID=c1", f"CNI_NETNS={space.path}", "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni"]

    def behind(command: str) -> str:
        words = ["env", f"CNI_COMMAND={command}", *variables, f"/usr/lib/cni/{other}"]
        return one.net.command(*words, stdin=json.dumps(chained))

    assert json.loads(behind("ADD"))["ips"] == added["ips"]
    if other == "bandwidth":
        host_end = one.net.command("tc", "qdisc", "show", "dev", added["interfaces"][0]["name"])
        assert "tbf" in host_end
    else:
        assert space.command("cat", "/proc/sys/net/core/somaxconn").strip() == "321"
    checked = one.run("CHECK", space, cniVersion="1.0.0", prevResult=added)
    assert checked.code == 0, checked.printed
    one.stop()
    one.start()
    one.loop.submit([]).result(10)
    assert one.run("CHECK", space, cniVersion="1.0.0", prevResult=added).code == 0
    behind("DEL")
    assert one.run("DEL", space, cniVersion="1.0.0").code == 0
    assert nothing_is_left(one)
