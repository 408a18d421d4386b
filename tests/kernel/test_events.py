"""What the event source tells of a real kernel: other people's deeds at once, our own not at all."""

import threading
import time
from ipaddress import ip_address as ip
from ipaddress import ip_interface

import pytest

from felixlite.addresses import Prefix
from felixlite.kernel import messages
from felixlite.kernel.events import Events
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links
from felixlite.kernel.neighbours import ForwardingEntries, Neighbours
from felixlite.kernel.routes import Routes
from felixlite.kernel.rules import Rules
from felixlite.rows import Fdb, FdbKey, Link, Neighbour, NeighbourKey, RouteKey, Rule, RuleKey, Vxlan, blackhole, on
from felixlite.snapshot import Gone, InSync, Put, Replace, links_that_came_up
from tests.support.netns import namespace


class Listener:
    """Collects what Events tells, and waits for a marker that proves that everything before it was heard."""

    def __init__(self, net, host, owns):
        self.net = net
        self.changes = []
        self.touched = []
        self.events = Events(host, self.changes.extend, self.touched.append, owns)
        self.thread = threading.Thread(target=self.events.run)
        self.thread.start()
        self.wait(lambda: InSync("kernel") in self.changes)
        self.first = list(self.changes)
        self.changes.clear()

    def wait(self, condition):
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, (self.changes, self.touched)
            time.sleep(0.005)

    def news(self):
        """Changes and touches since the last call, once all is quiet."""
        marker = f"m{time.monotonic_ns() % 10**9}"
        self.net.ip(f"link add {marker} type bridge")
        self.wait(lambda: any(isinstance(c, Put) and c.key == marker for c in self.changes))
        found = [c for c in self.changes if getattr(c, "key", None) != marker], list(self.touched)
        self.changes.clear()
        self.touched.clear()
        return found

    def close(self):
        self.events.stop()
        self.thread.join(5)
        self.events.close()


@pytest.fixture
def net():
    with namespace("fk-ev") as space:
        space.ip("link add b0 type bridge")
        space.ip("link set b0 up")
        space.ip("address add 192.0.2.1/24 dev b0")
        yield space


@pytest.fixture
def host(net):
    with Host(net.fd) as host:
        yield host


@pytest.fixture
def routes(host):
    return Routes(host)


@pytest.fixture
def listener(net, host, routes):
    listener = Listener(net, host, routes.owns)
    yield listener
    listener.close()


KEY = RouteKey(Prefix.parse("10.1.0.0/24"))


def test_the_first_thing_told_is_all_there_is_and_that_it_is_all(listener):
    links, addresses, in_sync = listener.first

    assert isinstance(links, Replace)
    assert {"lo", "b0"} == set(links.values)
    assert (links.values["b0"].kind, links.values["b0"].mtu) == ("bridge", 1500)
    assert addresses.values[("b0", "192.0.2.1/24")] == Prefix.parse("192.0.2.0/24")
    assert in_sync == InSync("kernel")


def test_links_come_change_and_go(net, listener):
    net.ip("link add b1 type bridge")
    net.ip("link set b1 mtu 1400")
    net.ip("link delete b1")

    changes, touched = listener.news()

    told = [(type(c), c.value.mtu if isinstance(c, Put) else None) for c in changes if c.key == "b1"]
    assert (Put, 1500) == told[0]
    assert (Put, 1400) in told
    assert (Gone, None) == told[-1]
    assert set(touched) <= {"links"}


def test_a_renamed_link_is_gone_under_its_old_name(net, listener):
    net.ip("link set b0 down")
    net.ip("link set b0 name b9")

    changes, _ = listener.news()

    assert Gone("links", "b0") in changes
    assert any(isinstance(c, Put) and c.key == "b9" for c in changes)


def test_addresses_come_and_go(net, listener):
    net.ip("address add 198.51.100.1/24 dev b0")
    net.ip("address del 198.51.100.1/24 dev b0")

    changes, _ = listener.news()

    key = ("b0", "198.51.100.1/24")
    assert [Put("link_addresses", key, Prefix.parse("198.51.100.0/24")), Gone("link_addresses", key)] == [
        c for c in changes if c.kind == "link_addresses" and c.key == key
    ]


def test_link_local_addresses_are_not_told(net, listener):
    net.ip("link add b1 type bridge")
    net.ip("link set b1 up")
    net.ip("address add fe80::5/64 dev b1 nodad", family=6)
    net.ip("link del b1")

    changes, touched = listener.news()

    assert {c.kind for c in changes} == {"links"}
    assert "routes" not in touched


def test_ipv6_routes_that_go_with_their_link_are_told_by_the_link_alone(net, listener, routes):
    net.ip("address add fd00::1/64 dev b0 nodad", family=6)
    assert routes.upsert({RouteKey(Prefix.parse("fd10::/64")): on("b0")}) == {}
    listener.news()

    net.ip("link set b0 down")

    changes, touched = listener.news()
    assert any(isinstance(c, Put) and c.key == "b0" and not c.value.up for c in changes)
    assert set(touched) <= {"links", "routes"}  # routes: the address that went, too


def test_our_own_writes_are_not_news(listener, routes, host):
    neighbours, rules = Neighbours(host), Rules(host)
    rule, neighbour = RuleKey(99, 4, 300), NeighbourKey("b0", ip("192.0.2.9"))
    listener.news()

    for row in (on("b0"), blackhole(), on("b0")):
        assert routes.upsert({KEY: row}) == {}
    assert routes.delete([KEY]) == {}
    assert neighbours.upsert({neighbour: Neighbour("02:00:00:00:00:09")}) == {}
    assert neighbours.delete([neighbour]) == {}
    assert rules.upsert({rule: Rule()}) == {}
    assert rules.delete([rule]) == {}

    assert listener.news() == ([], [])


@pytest.mark.parametrize(
    "deed",
    [
        "route del 10.1.0.0/24",
        "route replace 10.1.0.0/24 via 192.0.2.7",
        "route replace blackhole 10.1.0.0/24 proto 80",
    ],
)
def test_whoever_touches_a_route_of_ours_is_noticed(net, listener, routes, deed):
    routes.upsert({KEY: on("b0")})
    listener.news()

    net.ip(deed)

    assert listener.news()[1] == ["routes"]


def test_a_stray_route_with_our_protocol_is_noticed(net, listener):
    net.ip("route add 10.9.0.0/24 dev b0 proto 80")

    assert listener.news()[1] == ["routes"]


def test_other_peoples_routes_are_their_business(net, listener, routes):
    routes.upsert({KEY: on("b0")})
    listener.news()

    net.ip("route add 10.2.0.0/24 via 192.0.2.7")
    net.ip("route replace 10.2.0.0/24 via 192.0.2.8")
    net.ip("route del 10.2.0.0/24")

    assert listener.news() == ([], [])


def test_touched_neighbours_rules_and_forwarding_entries_are_noticed(net, listener, host):
    Neighbours(host).upsert({NeighbourKey("b0", ip("192.0.2.9")): Neighbour("02:00:00:00:00:09")})
    Rules(host).upsert({RuleKey(99, 4, 300): Rule()})
    Links(host).upsert({"vxlan.calico": Link("vxlan", vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "b0"))})
    ForwardingEntries(host).upsert({FdbKey("vxlan.calico", "66:00:00:00:00:02"): Fdb(ip("192.0.2.2"))})
    listener.news()

    net.ip("neighbour del 192.0.2.9 dev b0")
    net.ip("rule del priority 99")
    net.command("bridge", "fdb", "del", "66:00:00:00:00:02", "dev", "vxlan.calico", "dst", "192.0.2.2")

    assert {"neighbours", "rules", "fdb"} == set(listener.news()[1])


def test_a_tunnel_that_somebody_removes_is_noticed(net, listener, host):
    Links(host).upsert({"vxlan.calico": Link("vxlan", vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "b0"))})
    listener.news()

    net.ip("link del vxlan.calico")

    changes, touched = listener.news()
    assert Gone("links", "vxlan.calico") in changes
    assert "links" in touched


def test_ordinary_neighbours_are_not_heard_of(net, listener, host):
    listener.news()
    net.ip("neighbour add 192.0.2.50 lladdr 02:00:00:00:00:50 dev b0")
    net.ip("neighbour del 192.0.2.50 dev b0")

    assert listener.news() == ([], [])


def test_when_the_kernel_dropped_notifications_everything_is_listed_again(net, host):
    changes, touched = [], []
    events = Events(host, changes.extend, touched.append)  # its thread is not running: nobody reads
    events._listener._socket.setsockopt(1, 33, 2048)  # SO_RCVBUFFORCE: room for one or two
    host.netlink.do(*[messages.set_link("b0", mtu=1400 + i % 2) for i in range(100)])

    events._hear()
    events.close()

    assert touched == [None]
    assert [c.kind for c in changes if isinstance(c, Replace)] == ["links", "link_addresses"]


def test_an_address_of_the_kind_that_we_own_put_there_by_somebody_is_noticed(net, listener, host):
    Links(host).upsert({"vxlan.calico": Link("vxlan", vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "b0"))})
    listener.news()

    host.netlink.do(messages.set_address(host.index("vxlan.calico"), ip_interface("10.7.7.7/32")))

    assert "addresses" in listener.news()[1]


def test_a_carrier_that_goes_costs_nothing_that_we_write_and_its_coming_is_no_link_that_came_up(net, listener, host):
    """What the agent rests on when a pod's end is set up: the rows on the host's end are not written again."""
    net.ip("link add v0 type veth peer v1")
    net.ip("link set v0 up")
    net.ip("link set v1 up")
    key, neighbour = RouteKey(Prefix.parse("192.0.2.7/32")), NeighbourKey("v0", ip("192.0.2.7"))
    assert Routes(host).upsert({key: on("v0")}) == {}
    assert Neighbours(host).upsert({neighbour: Neighbour("02:00:00:00:00:07")}) == {}
    told, _ = listener.news()
    before = {"v0": next(c.value for c in told if c.key == "v0")}

    net.ip("link set v1 down")
    net.ip("link set v1 up")

    told, _ = listener.news()
    carrier = [c for c in told if getattr(c, "key", "") == "v0"]
    assert all(c.value.on for c in carrier)
    assert links_that_came_up(before, carrier) == set()
    assert key in Routes(host).read()
    assert neighbour in Neighbours(host).read()

    net.ip("link set v0 down")
    net.ip("link set v0 up")

    told, _ = listener.news()
    assert links_that_came_up(before, [c for c in told if getattr(c, "key", "") == "v0"]) == {"v0"}
    assert key not in Routes(host).read()


def test_of_a_link_that_is_being_made_the_last_word_is_told_when_its_maker_is_done(net, listener):
    expected = listener.events.expected
    with expected.making("w0"), expected.making("w1"):
        net.ip("link add w0 type bridge")
        net.ip("link add w1 type bridge")
        net.ip("link del w1")
        assert listener.news()[0] == []
    told, _ = listener.news()
    assert {(type(c), c.key) for c in told} == {(Put, "w0"), (Gone, "w1")}


@pytest.mark.parametrize("later", [(), ("off", "on")], ids=["only that", "and off and on again"])
def test_a_link_that_is_made_and_switched_on_in_one_burst_is_one_word(net, listener, later):
    burst_is_over = threading.Event()
    listener.events.give_way = burst_is_over.wait
    net.ip("link add p0 type veth peer name p1")
    for state in ("on", *later):
        net.ip(f"link set p0 {'up' if state == 'on' else 'down'}")
    burst_is_over.set()
    changes, touched = listener.news()
    told = [change.value for change in changes if isinstance(change, Put) and change.key == "p0"]
    assert [link.on for link in told] == [True, *(state == "on" for state in later)]
    assert links_that_came_up({"p0": told[0]}, changes) == ({"p0"} if later else set())
    assert ("links" in touched) == bool(later)


def test_a_link_that_is_switched_on_some_time_after_it_was_made_is_news_but_nobody_touched_it(net, listener):
    net.ip("link add p0 type veth peer name p1")
    assert [change.value.on for change in listener.news()[0] if change.key == "p0"] == [False]
    net.ip("link set p0 up")
    changes, touched = listener.news()
    assert [change.value.on for change in changes if change.key == "p0"] == [True]
    assert touched == []
