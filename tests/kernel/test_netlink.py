"""The sender against the real kernel: what arrives, what is refused, and that the right one is blamed."""

import errno
from ipaddress import ip_address, ip_interface

import pytest

from felixlite.addresses import Prefix
from felixlite.kernel import messages as m
from felixlite.kernel.netlink import Refused, Socket
from tests.support.netns import namespace


def test_a_pod_is_wired_with_one_batch_on_each_side():
    with namespace("fk-nl") as node, namespace("fk-nl") as pod, Socket(node.fd) as here, Socket(pod.fd) as there:
        gateway = ip_address("169.254.1.1")
        here.do(
            m.new_veth(
                m.VethEnd("cali1", index=7, mtu=1400, mac="ee:ee:ee:ee:ee:ee"),
                m.VethEnd("eth0", index=7, mtu=1400, namespace=pod.fd),
            ),
            m.set_link("cali1", up=True),
        )
        there.do(
            m.set_link(7, up=True),
            m.set_address(7, ip_interface("10.0.0.5/32")),
            m.set_neighbour(7, gateway, "ee:ee:ee:ee:ee:ee"),
            m.set_route(Prefix.host(gateway), 7, scope_link=True),
            m.set_route(Prefix.parse("0.0.0.0/0"), 7, gateway=gateway),
        )

        (link,) = node.show("link show cali1")
        assert (link["mtu"], link["address"], "UP" in link["flags"]) == (1400, "ee:ee:ee:ee:ee:ee", True)
        assert [(r["dst"], r.get("gateway")) for r in pod.show("route")] == [
            ("default", "169.254.1.1"),
            ("169.254.1.1", None),
        ]
        assert pod.show("neighbour")[0]["state"] == ["PERMANENT"]


def test_the_refused_message_of_a_batch_is_named_and_all_others_are_done():
    with namespace("fk-nl") as net, Socket(net.fd) as kernel:
        kernel.do(m.new_link("up0", "bridge"), m.set_link("up0", up=True))
        batch = [
            m.set_link("up0", mtu=1400),
            m.set_link("absent0", up=True),
            m.set_link("up0", mac="02:00:00:00:00:01"),
        ]

        refused = kernel.send(batch)

        assert [(position, error.errno) for position, error in refused.items()] == [(1, errno.ENODEV)]
        (link,) = net.show("link show up0")
        assert (link["mtu"], link["address"]) == (1400, "02:00:00:00:00:01")


def test_thousands_of_refusals_in_a_row_are_all_heard():
    with namespace("fk-nl") as net, Socket(net.fd) as kernel:
        refused = kernel.send([m.set_link("absent0", up=True)] * 3000)

        assert list(range(3000)) == list(refused)


def test_a_refusal_says_what_the_kernel_said():
    unreachable = m.set_route(Prefix.parse("10.0.0.0/24"), gateway=ip_address("192.0.2.1"))

    with namespace("fk-nl") as net, Socket(net.fd) as kernel, pytest.raises(Refused) as refusal:
        kernel.do(unreachable)

    assert str(refusal.value) == "Network is unreachable (Nexthop has invalid gateway)"


def test_what_is_to_be_ignored_is_no_error():
    with namespace("fk-nl") as net, Socket(net.fd) as kernel:
        kernel.do(m.delete_route(Prefix.parse("10.0.0.0/24")), ignore=(errno.ESRCH,))


def test_an_ipv6_address_serves_at_once():
    with namespace("fk-nl") as net, Socket(net.fd) as kernel:
        kernel.do(m.new_link("b0", "bridge"), m.set_link("b0", up=True))
        index = net.show("link show b0")[0]["ifindex"]

        kernel.do(m.set_address(index, ip_interface("fd00::1/128")))

        (shown,) = [a for a in net.show("address show b0")[0]["addr_info"] if a["local"] == "fd00::1"]
        assert "tentative" not in shown
