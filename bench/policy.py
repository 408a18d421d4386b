"""Policy: how long a ruleset, one change, one member and the index take, next to what the same text costs elsewhere.

Each figure is taken in a network namespace of its own, the yardstick in the same run, in turns with it, and both are
medians.  A change is measured from the Change (an Inputs that differs in one object) to the kernel's acknowledgement,
planner and reconciler included.
After the figures come the random worlds of _differential.py; POLICY_WORLDS=0 leaves them out.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

from bench import _differential
from felixlite import collector
from felixlite.addresses import Prefix
from felixlite.model.inside import Workload
from felixlite.model.policy import Action, EntityRule, Policy, PolicyRule, PortRange
from felixlite.model.selector import parse
from felixlite.policy.backend import PolicyTable
from felixlite.policy.choice import Backend
from felixlite.policy.inputs import Inputs
from felixlite.policy.ipset import difference, member_text
from felixlite.policy.plan import Planner
from felixlite.policy.rows import IpSet, Row
from felixlite.reconcile import Reconciler
from felixlite.tables import merged
from tests.support.netns import Namespace, namespace

BACKENDS: tuple[Backend, ...] = ("nftables", "legacy", "nft")
Line = dict[str, Any]


def endpoint(number: int, node: str = "here", **labels: str) -> Workload:
    address = Prefix.from_int((10 << 24) + (65 << 16) + number, 32, 4)
    return Workload(
        f"w{number}",
        "default",
        node,
        f"cali{number:08x}",
        (address,),
        pod=f"w{number}",
        labels=labels,
        profiles=("kns.default",),
    )


def many_rules(number: int, label: str) -> Policy:
    """A policy of five rules for the endpoints with one label."""
    rules = tuple(
        PolicyRule(
            Action.ALLOW,
            protocol=6,
            source=EntityRule(selector=parse(f"app == 'a{(number + k) % 50}'")),
            destination=EntityRule(ports=(PortRange(1000 + k, 1000 + k),)),
        )
        for k in range(5)
    )
    return Policy("NetworkPolicy", f"p{number}", "default", selector=parse(f"app == '{label}'"), ingress=rules)


def world(endpoints: int, policies: int, labels: int = 50) -> Inputs:
    """Each label has endpoints/labels endpoints and policies/labels policies."""
    local = [endpoint(n, app=f"a{n % labels}") for n in range(endpoints)]
    found = [many_rules(n, f"a{n % labels}") for n in range(policies)]
    return Inputs(
        local_workloads={(w.namespace, w.name): w for w in local},
        policies={(p.kind, p.namespace, p.name): p for p in found},
    )


class Node:
    def __init__(self, space: Namespace, backend: Backend) -> None:
        self.space, self.planner = space, Planner()
        self.table = PolicyTable(4, backend)
        self.reconciler = Reconciler([self.table])
        self.space.run(self.table.read)

    def timed(self, inputs: Inputs) -> float:
        start = time.perf_counter()
        with collector.paused():  # as the loop does
            plan = {"policy/4": self.planner(inputs).tables["policy/4"]}
            outcome = self.space.run(self.reconciler.converge, plan, start, may_delete=True)["policy/4"]
        assert not outcome.failures, outcome.failures
        return time.perf_counter() - start

    def rows(self) -> dict[Any, Row]:
        return dict(merged(self.planner(self.planner.last).tables["policy/4"]))


@contextmanager
def node(backend: Backend) -> Iterator[Node]:
    with namespace("fp") as space:
        yield Node(space, backend)


def fed(space: Namespace, text: str, *argv: str) -> float:
    start = time.perf_counter()
    subprocess.run(["ip", "netns", "exec", space.name, *argv], input=text, text=True, check=True, capture_output=True)
    return time.perf_counter() - start


def line(name: str, ours: float, yardstick: float, unit: str = "ms") -> Line:
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": ours / yardstick, "unit": unit}


def whole_ruleset(backend: Backend) -> list[Line]:
    """250 endpoints x 20 policies x 5 rules: planned, rendered and committed, next to loading the same again."""
    state = world(250, 1000)
    planned, rendered, theirs = [], [], []
    for _ in range(5):
        with node(backend) as here:
            planned.append(here.timed(state))
            theirs.append(loaded(here))
        with node(backend) as here:
            here.planner(state)
            rendered.append(here.timed(state))  # from planned rows to the kernel
    what = f"{backend}: 250 endpoints x 20 policies x 5 rules"
    yardstick = median(theirs) * 1e3
    return [
        line(f"{what}, planned, rendered and committed", median(planned) * 1e3, yardstick),
        line(f"{what}, rendered and committed", median(rendered) * 1e3, yardstick),
    ]


def loaded(here: Node) -> float:
    """What the packet filter's own program takes for all that is there, in an empty namespace."""
    with namespace("fp") as other:
        if here.table.backend == "nftables":
            return fed(other, here.space.command("nft", "list", "table", "ip", "felixlite"), "nft", "-f", "-")
        program = f"iptables-{here.table.backend}"
        sets = fed(other, here.space.command("ipset", "save"), "ipset", "-exist", "restore")
        return sets + fed(other, here.space.command(f"{program}-save"), f"{program}-restore")


def one_policy(backend: Backend) -> Line:
    """A rule of one policy changes, with 250 endpoints and 1,000 policies in place. Calico's agent: 130 ms."""
    state = world(250, 1000)
    key = ("NetworkPolicy", "default", "p7")
    with node(backend) as here:
        here.timed(state)
        found = []
        for port in range(11):
            changed = replace(state.policies[key], ingress=(PolicyRule(Action.ALLOW, protocol=17 + port),))
            state = replace(state, policies={**state.policies, key: changed})
            found.append(here.timed(state))
        return line(
            f"{backend}: one policy of 1,000 changed", median(found) * 1e3, 30 if backend == "nftables" else 130
        )


def one_label(backend: Backend) -> Line:
    """A local pod gets another label: another set of policies decides about it."""
    state = world(250, 1000)
    key = ("default", "w7")
    with node(backend) as here:
        here.timed(state)
        found = []
        for turn in range(11):
            labels = {"app": f"a{turn + 20}"}
            local = {**state.local_workloads, key: replace(state.local_workloads[key], labels=labels)}
            state = replace(state, local_workloads=local)
            found.append(here.timed(state))
        return line(f"{backend}: one local pod relabelled", median(found) * 1e3, 30 if backend == "nftables" else 130)


def one_member(backend: Backend, cluster: int = 5000) -> Line:
    """A pod with a matching label appears on another node of a cluster of 5,000 pods."""
    state = world(250, 1000)
    remote = {("default", f"w{n}"): endpoint(n, "there", app=f"a{n % 50}") for n in range(1000, 1000 + cluster)}
    state = replace(state, remote_workloads=remote)
    with node(backend) as here:
        here.timed(state)
        found = []
        for n in range(21):
            appeared = endpoint(20_000 + n, "there", app="a3")
            state = replace(state, remote_workloads={**state.remote_workloads, ("default", appeared.name): appeared})
            found.append(here.timed(state))
        return line(f"{backend}: a pod elsewhere joins a set", median(found) * 1e3, 7)


def ten_thousand_members(backend: Backend) -> Line:
    """10,000 pods of one label appear elsewhere, next to a set with the same members."""
    state = world(50, 50)
    remote = {("default", f"w{n}"): endpoint(n, "there", app="a3") for n in range(1000, 11_000)}
    ours, theirs = [], []
    with node(backend) as here:
        for _ in range(7):
            here.timed(state)
            ours.append(here.timed(replace(state, remote_workloads=remote)))
            (members,) = [r.members for r in here.rows().values() if isinstance(r, IpSet) and len(r.members) > 9000]
            theirs.append(filled(backend, IpSet("ip", members)))
    return line(f"{backend}: 10,000 members at once", median(ours) * 1e3, median(theirs) * 1e3)


def filled(backend: Backend, wanted: IpSet) -> float:
    """What the packet filter's own program takes for a set of these, in an empty namespace."""
    with namespace("fp") as other:
        if backend == "nftables":
            members = ", ".join(map(member_text, wanted.members))
            text = f"table ip t {{\n set s {{\n  type ipv4_addr\n  elements = {{ {members} }}\n }}\n}}\n"
            return fed(other, text, "nft", "-f", "-")
        lines = difference("fl4-s", None, wanted, 4)  # as wide from the beginning as ours
        return fed(other, "\n".join([*lines, ""]), "ipset", "restore")


def restart(backend: Backend) -> Line:
    """A new process with everything in place: read, planned from nothing, compared; nothing may be written."""
    state = world(250, 1000)
    with node(backend) as here:
        here.timed(state)
        again = Node(here.space, backend)
        start = time.perf_counter()
        plan = {"policy/4": again.planner(state).tables["policy/4"]}
        outcome = here.space.run(again.reconciler.converge, plan, start, may_delete=True)["policy/4"]
        assert (outcome.written, outcome.removed) == (0, 0)
        return line(f"{backend}: a restarted agent is in sync (2 s)", (time.perf_counter() - start) * 1e3, 2000)


def index() -> list[Line]:
    """100,000 endpoints, 1,000 selectors: the build, one change, the memory."""
    code = (
        "import time, resource\n"
        "from bench.policy import labels_of, selectors\n"
        "from felixlite.policy.index import SelectorIndex\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "start = time.perf_counter(); index = SelectorIndex()\n"
        "for s in selectors(): index.add(s)\n"
        "for n in range(100_000): index.put(n, labels_of(n))\n"
        "built = time.perf_counter() - start\n"
        "start = time.perf_counter()\n"
        "for n in range(1000): index.put(n, labels_of(n + 500_000))\n"
        "print(built, (time.perf_counter() - start) / 1000, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    built, change, memory = map(float, done.stdout.split())
    return [
        line("index: 100,000 endpoints, 1,000 selectors, built", built, 10, "s"),
        line("index: one label changed", change * 1e3, 1),
        line("index: memory", memory, 400, "MB"),
    ]


def labels_of(number: int) -> dict[str, str]:
    return {
        "app": f"a{number % 500}",
        "tier": f"t{number % 7}",
        "pod": f"p{number}",
        "pcns.team": f"x{number % 40}",
        "projectcalico.org/namespace": f"n{number % 200}",
    }


def selectors() -> list[Any]:
    namespace = "projectcalico.org/namespace"
    found = [f"{namespace} == 'n{n % 200}' && app == 'a{n % 500}'" for n in range(700)]
    found += [f"app in {{'a{n}', 'a{n + 1}'}} && tier != 't1'" for n in range(250)]
    found += [f"has(pcns.team) && tier == 't{n % 7}' && app starts with 'a{n}'" for n in range(50)]
    return [parse(text) for text in found]


def main() -> list[Line]:
    measures: list[Callable[[Backend], Line]] = [
        one_policy,
        one_label,
        one_member,
        ten_thousand_members,
        restart,
    ]
    lines = [each for backend in BACKENDS for each in whole_ruleset(backend)]
    lines += [measure(backend) for measure in measures for backend in BACKENDS]
    lines += index()
    for found in lines:
        print(
            f"{found['name']:75} {found['ours']:9.2f} {found['yardstick']:9.2f} {found['unit']:3} x{found['ratio']:.2f}"
        )
    return lines + _differential.rows()


if __name__ == "__main__":
    main()
