from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.ipip import switch
from felixlite.ipip.devices import Tunnel
from felixlite.ipip.plan import Carrier, encapsulation
from felixlite.ipip.switch import LINGER, LONGEST, UNTOLD, Progress, advance
from tests.support.overlays import A, link, node, node6, pool

PATIENCE = 10.0
UP = {"eth0": link("eth0"), "tunl0": link("tunl0", "ipip"), "vxlan.calico": link("vxlan.calico", "vxlan")}
BARE = {"eth0": link("eth0")}
IPIP_UP = {"eth0": link("eth0"), "tunl0": link("tunl0", "ipip")}


def near(name, accepts=("native",), sends=(), vtep=True):
    number = int(name[1:])
    return node(
        name,
        f"192.0.2.{number}/24",
        ipip_address=A(f"10.42.{number}.0"),
        vxlan_address=A(f"10.42.{number}.1") if vtep else None,
        accepts=None if accepts is None else frozenset(accepts),
        sends=None if sends is None else frozenset(sends),
    )


N1 = near("n1")


def step(before, now, others, pools, links=BARE):
    nodes = {n.name: n for n in (N1, *others)}
    return advance(before, now, N1, nodes, {p.name: p for p in pools}, links, PATIENCE)


def sent(progress, name="n2", pool="p"):
    return progress.sending[pool, name]


def test_a_sender_goes_on_as_before_until_the_far_node_accepts_what_is_new():
    before = step(Progress(), 0, [near("n2")], [pool()])
    waiting = step(before, 1, [near("n2")], [pool(ipip="Always")])
    moved = step(waiting, 3, [near("n2", ["native", "ipip"])], [pool(ipip="Always")])

    assert sent(before) == "native"
    assert sent(waiting) == "native"
    assert sent(moved) == "ipip"
    assert not moved.waiting


def test_the_wait_has_a_bound():
    before = step(Progress(), 0, [near("n2")], [pool()])
    waiting = step(before, 1, [near("n2")], [pool(ipip="Always")])

    assert waiting.ask_again_at == 1 + PATIENCE
    assert sent(step(waiting, 1 + PATIENCE, [near("n2")], [pool(ipip="Always")])) == "ipip"


def test_a_node_that_publishes_nothing_is_not_waited_for():
    assert sent(step(Progress(), 0, [near("n2", accepts=None)], [pool(ipip="Always")])) == "ipip"


def test_no_wait_makes_up_for_a_missing_tunnel_address():
    others = [near("n2", ["native", "vxlan"], vtep=False)]
    waiting = step(Progress(), 0, others, [pool(vxlan="Always")])

    assert sent(step(waiting, PATIENCE + 1, others, [pool(vxlan="Always")])) == "native"


def test_it_is_told_whom_a_sender_waits_for():
    others = {"n1": N1, "n2": near("n2"), "n3": near("n3", ["native", "ipip"])}
    pools = {"p": pool(ipip="Always")}
    progress = advance(Progress(), 0, N1, others, pools, IPIP_UP, PATIENCE)

    assert list(switch.notes(progress, 4, N1, others, pools, PATIENCE)) == [
        "pool p: native to n2 until it says that it can accept ipip (4 of 10 s)"
    ]
    late = advance(progress, 11, N1, others, pools, IPIP_UP, PATIENCE)
    assert list(switch.notes(late, 11, N1, others, pools, PATIENCE)) == [
        "pool p: ipip to n2, which never said that it accepts it; 10 s were up"
    ]


def test_a_tunnel_opens_at_once_and_is_accepted_when_its_link_is_up():
    progress = step(Progress(), 0, [near("n2")], [pool(ipip="Always")])

    assert progress.open == {Tunnel.IPIP}
    assert switch.published_accepts(progress, N1, BARE) == {"native"}
    assert switch.published_accepts(progress, N1, UP) == {"native", "ipip"}


def test_vxlan_is_not_accepted_before_this_node_has_an_address_for_it():
    progress = step(Progress(), 0, [], [pool(vxlan="Always")])

    assert switch.published_accepts(progress, near("n1", vtep=False), UP) == {"native"}
    assert switch.published_accepts(progress, N1, UP) == {"native", "vxlan"}


def test_a_tun_needs_no_carrier_when_programs_do_the_work():
    progress = step(Progress(), 0, [], [pool(ipip="Always")])
    down = {"tunl0": link("tunl0", "tun", up=False)}

    assert switch.published_accepts(progress, N1, down, Carrier.EBPF) == {"native", "ipip"}
    assert switch.published_accepts(progress, N1, down, Carrier.USER_SPACE) == {"native"}


def test_a_tunnel_stays_open_until_every_sender_has_moved_and_then_a_little():
    ready = near("n2", ["native", "ipip"], ["ipip"])
    used = step(Progress(), 0, [ready], [pool(ipip="Always")], IPIP_UP)
    left = step(used, 1, [ready], [pool()], IPIP_UP)
    later = step(left, 50, [ready], [pool()], IPIP_UP)
    quiet = step(later, 60, [near("n2", ["native", "ipip"], [])], [pool()], IPIP_UP)
    closed = step(quiet, 60 + LINGER, [near("n2", ["native"], [])], [pool()], IPIP_UP)

    assert sent(left) == "native"
    assert left.open == later.open == quiet.open == {Tunnel.IPIP}
    assert quiet.ask_again_at == 60 + LINGER
    assert closed.open == frozenset()


def test_a_tunnel_that_is_about_to_close_is_no_longer_offered():
    progress = step(step(Progress(), 0, [], [pool(ipip="Always")], IPIP_UP), 1, [], [pool()], IPIP_UP)

    assert progress.open == {Tunnel.IPIP}
    assert switch.published_accepts(progress, N1, IPIP_UP) == {"native"}


def test_a_tunnel_that_is_called_for_again_while_it_closes_is_offered_again():
    closing = step(step(Progress(), 0, [], [pool(ipip="Always")], IPIP_UP), 1, [], [pool()], IPIP_UP)
    again = step(closing, 2, [], [pool(ipip="Always")], IPIP_UP)

    assert switch.published_accepts(again, N1, IPIP_UP) == {"native", "ipip"}
    assert not again.unneeded


def test_nodes_that_say_nothing_are_given_time_and_dead_ones_an_end():
    silent, dead = near("n2", None, None), near("n3", ["native"], ["ipip"])
    used = step(Progress(), 0, [silent], [pool(ipip="Always")], UP)

    assert step(used, 1, [silent], [pool()], UP).open
    patient = step(step(used, 1, [silent], [pool()], UP), 1 + UNTOLD, [silent], [pool()], UP)
    assert patient.quiet
    held = step(step(used, 1, [dead], [pool()], UP), 1 + LONGEST - 1, [dead], [pool()], UP)
    assert not held.quiet
    assert step(held, 1 + LONGEST, [dead], [pool()], UP).quiet


def test_after_a_restart_in_the_middle_of_a_switch_the_open_tunnel_is_used_until_the_far_node_is_ready():
    slow = near("n2", ["native", "ipip"], ["ipip"])

    restarted = step(Progress(), 0, [slow], [pool(vxlan="Always")], UP)

    assert sent(step(replace(restarted, inputs=()), 1, [slow], [pool(vxlan="Always")], UP)) == "ipip"
    assert Tunnel.IPIP in restarted.open


def test_nothing_new_is_the_same_object():
    first = step(Progress(), 0, [near("n2")], [pool()])
    nodes, pools = {"n1": N1, "n2": near("n2")}, {"p": pool()}
    second = advance(first, 1, N1, nodes, pools, BARE, PATIENCE)

    assert advance(second, 2, N1, nodes, pools, BARE, PATIENCE) is second
    assert second.sending is first.sending


def test_ipv6_has_a_tunnel_of_its_own():
    a, b = node6("a", "fd00::1/64"), node6("b", "fd00::2/64", accepts=frozenset({"native", "vxlan"}))
    v6 = pool("fd42::/64", vxlan="Always")

    progress = advance(Progress(), 0, a, {"a": a, "b": b}, {"p": v6}, BARE, PATIENCE)

    assert progress.open == {Tunnel.VXLAN_V6}
    assert sent(progress, "b") == "native"


def test_how_far_each_node_is_can_be_told():
    nodes = {
        "n1": near("n1", ["native", "ipip"], ["ipip"]),
        "n2": near("n2", ["native"], ["vxlan"]),
        "n3": near("n3", None, None),
        "n4": near("n4", ["native", "ipip"], []),
    }

    def told(*others):
        rows = switch.standing(pool(ipip="Always"), nodes, {other.name: other for other in others})
        return [(row.node, row.accepts, row.old, row.done) for row in rows]

    assert told() == [
        ("n1", True, (), True),
        ("n2", False, ("vxlan",), False),
        ("n3", None, (), True),
        ("n4", True, (), False),  # it sends natively still
    ]
    assert told(pool("10.43.0.0/16", "q", vxlan="Always"))[1] == ("n2", False, (), False)


MODES = [{}, {"ipip": "Always"}, {"ipip": "CrossSubnet"}, {"vxlan": "Always"}, {"vxlan": "CrossSubnet"}]


class Cluster:
    """Three agents that see pools and each other's publications late and in any order."""

    def __init__(self):
        self.now = 0.0
        names = ["n1", "n2", "n3"]
        self.told = {n: near(n) for n in names}
        self.seen = {n: dict(self.told) for n in names}
        self.pool = {n: pool() for n in names}
        self.progress = {n: Progress() for n in names}
        self.links = dict.fromkeys(names, BARE)

    def act(self, name):
        here = self.seen[name][name]
        pools = {"p": self.pool[name]}
        after = advance(
            self.progress[name], self.now, here, self.seen[name], pools, self.links[name], patience=float("inf")
        )
        self.progress[name] = after
        self.links[name] = {k: v for k, v in UP.items() if k in {"eth0", *(switch.LINK[t] for t in after.open)}}
        self.told[name] = replace(
            self.told[name],
            accepts=switch.published_accepts(after, here, self.links[name]),
            sends=switch.published_sends(after, pools),
        )

    def hear(self, name):
        self.seen[name] = dict(self.told)

    def nothing_is_lost(self):
        """Whatever anybody sends, its receiver has open."""
        for sender, progress in self.progress.items():
            for (_, receiver), kind in progress.sending.items():
                tunnel = {"ipip": Tunnel.IPIP, "vxlan": Tunnel.VXLAN}.get(kind)
                assert tunnel is None or tunnel in self.progress[receiver].open, (sender, receiver, kind)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_order_the_news_arrives_in_nobody_sends_what_is_not_received(data):
    cluster = Cluster()
    for name in cluster.told:
        cluster.act(name)
    for _ in range(40):
        name = data.draw(st.sampled_from(sorted(cluster.told)))
        match data.draw(st.sampled_from(["act", "hear", "edit", "wait"])):
            case "act":
                cluster.act(name)
            case "hear":
                cluster.hear(name)
                cluster.act(name)
            case "edit":
                cluster.pool[name] = pool(**data.draw(st.sampled_from(MODES)))
                cluster.act(name)
            case "wait":  # news may be late, but not later than LINGER
                cluster.now += LINGER / 2
                for each in sorted(cluster.told):
                    cluster.hear(each)
                    cluster.act(each)
        cluster.nothing_is_lost()


@pytest.mark.parametrize("modes", MODES)
def test_once_everybody_has_heard_everything_all_send_what_the_pool_says(modes):
    cluster = Cluster()
    cluster.pool = dict.fromkeys(cluster.pool, pool(**modes))
    for _ in range(4):
        for name in cluster.told:
            cluster.hear(name)
            cluster.act(name)

    for progress in cluster.progress.values():
        assert set(progress.sending.values()) == {encapsulation(pool(**modes), N1, near("n2"))}
