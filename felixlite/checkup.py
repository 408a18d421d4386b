"""What `felixlite doctor` looks at on a machine, and what to do about each thing that is wrong. Changes nothing.

A check is a function from the machine to findings; `bad` means that felixlite will not work as configured, `warn` that
something may bite later.  Features of the kernel are tried in a network namespace of their own that is gone at once.
It needs neither an agent nor a store: it is run before the installation as well as after.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

OK, WARN, BAD = "ok", "warn", "bad"
NEEDED_CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 21: "CAP_SYS_ADMIN"}
OLDEST_TESTED = (5, 10)
OPEN_FILES = 4096
NEIGHBOURS = 4096  # gc_thresh3: pods of this node and nodes of the cluster share the table
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
OURS = ("felixlite", "python", "exabgp")  # as ss calls who listens


class Finding(NamedTuple):
    check: str
    verdict: str
    what: str
    fix: str = ""


def ran(command: Sequence[str], stdin: str) -> tuple[int, str]:
    if not shutil.which(command[0]):
        return 127, ""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stdout


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks may look at; a test gives another root and other programs."""

    root: Path = Path("/")
    run: Callable[[Sequence[str], str], tuple[int, str]] = ran

    def read(self, path: str) -> str:
        """A file's text, or nothing."""
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return ""

    def tries(self, *command: str, stdin: str = "") -> bool:
        """Whether a program succeeds in a network namespace of its own."""
        return self.run(("unshare", "-n", *command), stdin)[0] == 0

    def asked(self, *command: str) -> str:
        code, printed = self.run(command, "")
        return printed if code == 0 else ""


Check = Callable[[Machine], Iterator[Finding]]


def examined(machine: Machine) -> Iterator[Finding]:
    for check in CHECKS:
        yield from check(machine)


# -- the process and the kernel


def capabilities(machine: Machine) -> Iterator[Finding]:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", machine.read("proc/self/status"), re.MULTILINE)
    have = int(found[1], 16) if found else 0
    missing = [name for bit, name in NEEDED_CAPABILITIES.items() if not have >> bit & 1]
    if missing:
        yield Finding(
            "capabilities", BAD, f"{', '.join(missing)} missing", "run the agent (and doctor) as root, or grant them"
        )
    else:
        yield Finding("capabilities", OK, "all that the agent needs")


def kernel(machine: Machine) -> Iterator[Finding]:
    release = machine.read("proc/sys/kernel/osrelease")
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST_TESTED:
        oldest = ".".join(map(str, OLDEST_TESTED))
        yield Finding(
            "kernel", WARN, f"{release or 'unknown'}", f"older than {oldest}, the oldest that is tested: upgrade"
        )
    else:
        yield Finding("kernel", OK, release)


def links(machine: Machine) -> Iterator[Finding]:
    """Kinds of links. Without ipip another carrier takes its place, so that is only worth a word."""
    for kind, verdict, extra, why in (
        ("veth", BAD, "peer name t1", "pods are connected by it: modprobe veth"),
        ("ipip", OK, "local 192.0.2.1 remote 192.0.2.2", "IPIP is carried by eBPF or in user space instead; modprobe ipip for the kernel's"),
        ("vxlan", WARN, "id 1 dstport 4789", "pools with vxlanMode will not work: modprobe vxlan"),
    ):  # fmt: skip
        if machine.tries("ip", "link", "add", "t0", "type", kind, *extra.split()):
            yield Finding(f"link {kind}", OK, "there")
        else:
            yield Finding(f"link {kind}", verdict, "not there", why)


RULES = {
    "sets": "add set ip t s { type ipv4_addr; flags interval; }",
    "conntrack": "add rule ip t f ct state established accept",
    "masquerade": "add chain ip t n { type nat hook postrouting priority 100; }\nadd rule ip t n masquerade",
    "marks": "add rule ip t f meta mark set meta mark or 0x10000",
    "log": 'add rule ip t f log prefix "x"',
    "reject": "add rule ip t f reject",
}


def nftables(machine: Machine) -> Iterator[Finding]:
    base = "add table ip t\nadd chain ip t f { type filter hook forward priority 0; }\n"
    if not machine.tries("nft", "-f", "-", stdin=base):
        if machine.asked("iptables", "--version"):
            yield Finding(
                "nftables",
                WARN,
                "not usable",
                "policy is written with iptables; for nftables: apt-get install nftables, modprobe nf_tables",
            )
        else:
            yield Finding("nftables", BAD, "neither nftables nor iptables", "apt-get install nftables")
        return
    missing = [name for name, rule in RULES.items() if not machine.tries("nft", "-f", "-", stdin=base + rule + "\n")]
    modules = {"log": "nft_log", "reject": "nft_reject_ipv4", "masquerade": "nft_masq", "conntrack": "nft_ct"}
    if missing:
        fix = "modprobe " + " ".join(modules.get(name, "nf_tables") for name in missing)
        yield Finding("nftables", BAD, f"cannot do {', '.join(missing)}", fix)
    else:
        yield Finding("nftables", OK, "everything that policy needs")


def flowtable(machine: Machine) -> Iterator[Finding]:
    """Few want it, so that it is not there is only worth a word."""
    flows = "add table inet t\nadd flowtable inet t w { hook ingress priority 0; devices = { lo }; }\n"
    chain = "add chain inet t f { type filter hook forward priority 0; }\nadd rule inet t f flow add @w\n"
    if machine.tries("nft", "-f", "-", stdin=flows + chain):
        yield Finding("flowtable", OK, "there")
    else:
        yield Finding("flowtable", OK, "not there", "only nftablesFlowTableOffload wants it: modprobe nft_flow_offload")


# -- settings of the machine


def sysctls(machine: Machine) -> Iterator[Finding]:
    if machine.read("proc/sys/net/ipv4/ip_forward") == "1":
        yield Finding("forwarding", OK, "on")
    else:
        yield Finding(
            "forwarding", WARN, "net.ipv4.ip_forward is 0", "the agent turns it on, unless ipForwarding is Disabled"
        )
    size = machine.read("proc/sys/net/ipv4/neigh/default/gc_thresh3")
    if size and int(size) < NEIGHBOURS:
        fix = f"sysctl -w net.ipv4.neigh.default.gc_thresh3={NEIGHBOURS} before there are more pods and nodes than that"
        yield Finding("neighbours", WARN, f"the kernel keeps {size} at most", fix)


def reverse_path(machine: Machine) -> Iterator[Finding]:
    """Strict filters drop what arrives by another way than the answer would take: several routers, tunnels."""
    folder = machine.root / "proc/sys/net/ipv4/conf"
    skipped = ("lo", "cali", "default", "all", "tunl", "vxlan.")
    everywhere = machine.read("proc/sys/net/ipv4/conf/all/rp_filter") or "0"
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    own = {name: machine.read(f"proc/sys/net/ipv4/conf/{name}/rp_filter") or "0" for name in names}
    strict = [name for name in names if not name.startswith(skipped) and max(own[name], everywhere) == "1"]
    if strict:
        fix = f"with more than one router: sysctl -w net.ipv4.conf.{strict[0]}.rp_filter=2 (and all.rp_filter=0)"
        yield Finding("rp_filter", WARN, f"strict on {', '.join(strict)}", fix)
    else:
        yield Finding("rp_filter", OK, "not strict on any uplink")


def files(_: Machine) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        yield Finding(
            "open files",
            WARN,
            f"at most {soft} (hard limit {hard})",
            f"ulimit -n {OPEN_FILES}, or LimitNOFILE= in the unit",
        )
    else:
        yield Finding("open files", OK, f"up to {soft}")


def clock(_: Machine) -> Iterator[Finding]:
    """TLS certificates, leases and the ages of leaked addresses go by it."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: only ask
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state == UNSYNCHRONISED:
        yield Finding(
            "clock",
            WARN,
            "not synchronised",
            "run chrony or systemd-timesyncd; certificates and leases go by the clock",
        )
    elif state < 0:
        yield Finding(
            "clock", WARN, f"adjtimex: {os.strerror(ctypes.get_errno())}", "see that something sets the clock"
        )
    else:
        yield Finding("clock", OK, "synchronised")


# -- who else is here


PORTS = (("tcp", 179, "BGP"), ("tcp", 9099, "health"), ("tcp", 9091, "metrics"), ("udp", 4789, "VXLAN"))


def ports(machine: Machine) -> Iterator[Finding]:
    listing = machine.asked("ss", "-Hlntup")
    for protocol, number, what in PORTS:
        owners = {
            owner
            for line in listing.splitlines()
            if line.split()[0] == protocol and re.search(rf"\S[:.\]]{number}\s", line)
            for owner in re.findall(r'\("([^"]+)"', line) or ["the kernel"]
        }
        others = sorted(each for each in owners if not each.startswith((*OURS, "the kernel")))
        name = f"port {number}/{protocol}"
        if others:
            remedy = {179: "stop it, or leave BGP to it", 4789: "choose another vxlanPort"}
            yield Finding(
                name,
                BAD if number == 179 else WARN,
                f"taken by {', '.join(others)}",
                remedy.get(number, f"stop it, or choose another port for {what}"),
            )
        else:
            yield Finding(name, OK, f"{'ours' if owners else 'free'} ({what})")


def iptables(machine: Machine) -> Iterator[Finding]:
    """Two flavours at once see packets twice, and neither shows the other's rules."""
    used = {
        flavour: [line for line in machine.asked(f"iptables-{flavour}-save").splitlines() if line.startswith("-A")]
        for flavour in ("legacy", "nft")
    }
    if all(used.values()):
        yield Finding(
            "iptables",
            WARN,
            "rules in iptables-legacy and in iptables-nft",
            "choose one: update-alternatives --config iptables; then flush the other",
        )
    else:
        inside = next((flavour for flavour, rules in used.items() if rules), "")
        yield Finding("iptables", OK, f"rules only in iptables-{inside}" if inside else "no rules")
    for flavour in used:
        if re.search(r"^:FORWARD DROP", machine.asked(f"iptables-{flavour}-save", "-t", "filter"), re.MULTILINE):
            yield Finding(
                "iptables FORWARD",
                WARN,
                f"iptables-{flavour}: policy DROP (Docker sets it)",
                f"iptables-{flavour} -A FORWARD -i cali+ -j ACCEPT, and the same with -o cali+; our own chains still decide",
            )


def foreign_chains(machine: Machine) -> Iterator[Finding]:
    """Chains of others that drop what is forwarded: a packet has to be accepted by every base chain of a hook."""
    listed = json.loads(machine.asked("nft", "-j", "list", "chains") or '{"nftables": []}')["nftables"]
    chains = [each["chain"] for each in listed if "chain" in each]
    dropping = [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and not chain["table"].startswith("felixlite")
        and not (chain["table"] == "filter" and chain["name"] == "FORWARD")  # that one is iptables', see above
    ]  # fmt: skip
    if dropping:
        yield Finding(
            "foreign rules",
            WARN,
            f"chain {', '.join(dropping)} drops what is forwarded",
            "let it accept interfaces cali*, tunl0 and vxlan.calico",
        )
    else:
        yield Finding("foreign rules", OK, "nobody else drops what is forwarded")


def ipvs(machine: Machine) -> Iterator[Finding]:
    """In that mode policy is asked behind IPVS; without connection tracking there, the answers are strangers."""
    if not (machine.root / "sys/class/net/kube-ipvs0").exists():
        return
    tracking = machine.read("proc/sys/net/ipv4/vs/conntrack")
    if tracking == "1":
        yield Finding("kube-proxy", OK, "in ipvs mode, with connection tracking")
    elif not tracking:
        yield Finding(
            "kube-proxy",
            WARN,
            "there is a link kube-ipvs0, and no IPVS in the kernel: left over from ipvs mode?",
            "kube-proxy --cleanup, or ip link delete kube-ipvs0, if kube-proxy is in another mode now",
        )
    else:
        yield Finding(
            "kube-proxy",
            BAD,
            "in ipvs mode without connection tracking: what answers a pod in the name of a service is dropped",
            "sysctl net.ipv4.vs.conntrack=1, as kube-proxy does when it starts",
        )


def services(machine: Machine) -> Iterator[Finding]:
    running = {machine.read(f"proc/{pid}/comm") for pid in _pids(machine)}
    for name, fix in (
        ("NetworkManager", "tell it to leave ours alone: [keyfile] unmanaged-devices=interface-name:cali*;interface-name:tunl0;interface-name:vxlan.calico"),
        ("firewalld", "it flushes rules and drops forwarding: disable it, or put cali* into the zone `trusted`"),
        ("dockerd", "it sets FORWARD to DROP; see iptables FORWARD above"),
        ("calico-felix", "Calico's agent writes the same rules and routes: run one of the two"),
        ("flanneld", "it owns routes to the same blocks: run one of the two"),
    ):  # fmt: skip
        if name in running and not (name == "NetworkManager" and _leaves_cali_alone(machine)):
            yield Finding(name, BAD if name == "calico-felix" else WARN, "runs here", fix)


def _pids(machine: Machine) -> list[str]:
    folder = machine.root / "proc"
    return [each.name for each in folder.iterdir() if each.name.isdigit()] if folder.is_dir() else []


def _leaves_cali_alone(machine: Machine) -> bool:
    folder = machine.root / "etc/NetworkManager/conf.d"
    return folder.is_dir() and any("interface-name:cali" in each.read_text() for each in folder.glob("*.conf"))


CHECKS: tuple[Check, ...] = (
    capabilities, kernel, links, nftables, flowtable, sysctls, reverse_path, files, clock, ports, iptables, foreign_chains,
    ipvs, services,
)  # fmt: skip
