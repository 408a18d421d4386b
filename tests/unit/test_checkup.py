"""What `felixlite doctor` says about machines that were made up: files in a folder, programs in a dict."""

import json

import pytest

from felixlite.checkup import (
    BAD,
    CHECKS,
    OK,
    WARN,
    Machine,
    capabilities,
    examined,
    flowtable,
    foreign_chains,
    iptables,
    ipvs,
    kernel,
    links,
    nftables,
    ports,
    reverse_path,
    services,
    sysctls,
)

HEALTHY = {
    "proc/self/status": "CapEff:\t000001ffffffffff",
    "proc/sys/kernel/osrelease": "6.1.0-18-amd64",
    "proc/sys/net/ipv4/ip_forward": "1",
    "proc/sys/net/ipv4/neigh/default/gc_thresh3": "8192",
    "proc/sys/net/ipv4/conf/all/rp_filter": "0",
    "proc/sys/net/ipv4/conf/eth0/rp_filter": "2",
    "proc/1/comm": "systemd",
}


class Programs(dict):
    """(words of a command) -> what it prints; a command that is not here fails. Longest match wins."""

    def __call__(self, command, stdin):
        line = " ".join([*command, stdin])
        for words in sorted(self, key=len, reverse=True):
            if all(word in line for word in words.split()):
                answer = self[words]
                return (0, answer) if answer is not None else (1, "")
        return 127, ""


ABLE = {
    "unshare -n": "",
    "ss": "",
    "iptables-legacy-save": "",
    "iptables-nft-save": "",
    "nft -j list chains": '{"nftables": []}',
}


@pytest.fixture
def machine(tmp_path):
    def made(files=(), programs=()):
        for path, text in {**HEALTHY, **dict(files)}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text + "\n")
        return Machine(tmp_path, Programs({**ABLE, **dict(programs)}))

    return made


def verdicts(check, machine):
    return {found.check: found.verdict for found in check(machine)}


def test_every_finding_that_is_not_fine_says_what_to_do(machine):
    sick = machine(
        {"proc/self/status": "CapEff:\t0", "proc/sys/kernel/osrelease": "4.4.0", "proc/sys/net/ipv4/ip_forward": "0",
         "proc/sys/net/ipv4/conf/eth0/rp_filter": "1", "proc/7/comm": "firewalld", "sys/class/net/kube-ipvs0/mtu": "1500"},
        {"unshare -n": None, "iptables-legacy-save": "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j X", "iptables-nft-save": "-A INPUT -j Y"},
    )  # fmt: skip
    found = list(examined(sick))

    assert len({each.check for each in found}) >= len(CHECKS)
    assert [each for each in found if each.verdict != OK and not each.fix] == []
    assert {each.check for each in found if each.verdict == BAD} >= {"capabilities", "link veth", "nftables"}


@pytest.mark.parametrize(
    ("check", "files", "programs", "expected"),
    [
        (capabilities, {}, {}, {"capabilities": OK}),
        (capabilities, {"proc/self/status": "CapEff:\t0000000000001000"}, {}, {"capabilities": BAD}),
        (kernel, {"proc/sys/kernel/osrelease": "5.4.0"}, {}, {"kernel": WARN}),
        (links, {}, {"unshare ipip": None, "unshare vxlan": None}, {"link veth": OK, "link ipip": OK, "link vxlan": WARN}),
        (nftables, {}, {"unshare nft log": None}, {"nftables": BAD}),
        (nftables, {}, {"unshare nft": None, "iptables --version": "v1.8"}, {"nftables": WARN}),
        (flowtable, {}, {}, {"flowtable": OK}),
        (flowtable, {}, {"unshare nft": None}, {"flowtable": OK}),
        (sysctls, {"proc/sys/net/ipv4/neigh/default/gc_thresh3": "1024"}, {}, {"forwarding": OK, "neighbours": WARN}),
        (reverse_path, {}, {}, {"rp_filter": OK}),
        (reverse_path, {"proc/sys/net/ipv4/conf/eth0/rp_filter": "1"}, {}, {"rp_filter": WARN}),
        (reverse_path, {"proc/sys/net/ipv4/conf/cali123/rp_filter": "1"}, {}, {"rp_filter": OK}),
        (iptables, {}, {"iptables-nft-save": "-A FORWARD -j ACCEPT"}, {"iptables": OK}),
        (iptables, {}, {"iptables-nft-save": "-A X", "iptables-legacy-save": "-A Y"}, {"iptables": WARN}),
        (iptables, {}, {"iptables-legacy-save": ":FORWARD DROP [1:2]"}, {"iptables": OK, "iptables FORWARD": WARN}),
        (ipvs, {}, {}, {}),
        (ipvs, {"sys/class/net/kube-ipvs0/mtu": "1500"}, {}, {"kube-proxy": WARN}),
        (ipvs, {"sys/class/net/kube-ipvs0/mtu": "1500", "proc/sys/net/ipv4/vs/conntrack": "0"}, {}, {"kube-proxy": BAD}),
        (ipvs, {"sys/class/net/kube-ipvs0/mtu": "1500", "proc/sys/net/ipv4/vs/conntrack": "1"}, {}, {"kube-proxy": OK}),
        (services, {"proc/9/comm": "calico-felix"}, {}, {"calico-felix": BAD}),
        (services, {"proc/9/comm": "NetworkManager"}, {}, {"NetworkManager": WARN}),
        (services, {"proc/9/comm": "NetworkManager", "etc/NetworkManager/conf.d/c.conf": "interface-name:cali*"}, {}, {}),
    ],
)  # fmt: skip
def test_a_check_tells_a_healthy_machine_from_a_sick_one(machine, check, files, programs, expected):
    assert verdicts(check, machine(files, programs)) == expected


def test_who_has_a_port_is_named_and_the_agent_itself_is_no_stranger(machine):
    listing = (
        'tcp LISTEN 0 8 0.0.0.0:179 0.0.0.0:* users:(("bird",pid=7,fd=9))\n'
        'tcp LISTEN 0 5 127.0.0.1:9099 0.0.0.0:* users:(("felixlite",pid=8,fd=3))\n'
        "udp UNCONN 0 0 0.0.0.0:4789 0.0.0.0:*"
    )
    found = {each.check: each for each in ports(machine(programs={"ss": listing}))}

    assert (found["port 179/tcp"].verdict, found["port 179/tcp"].what) == (BAD, "taken by bird")
    assert [found[name].verdict for name in ("port 9099/tcp", "port 9091/tcp", "port 4789/udp")] == [OK, OK, OK]


def test_a_chain_of_somebody_else_that_drops_is_found_and_ours_is_not(machine):
    def chain(table):
        return {"chain": {"family": "inet", "table": table, "name": "fwd", "hook": "forward", "policy": "drop"}}

    listed = json.dumps({"nftables": [chain("firewalld"), chain("felixlite")]})
    (found,) = foreign_chains(machine(programs={"nft -j list chains": listed}))

    assert (found.verdict, found.what) == (WARN, "chain inet firewalld fwd drops what is forwarded")
