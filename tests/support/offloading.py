"""Who talks past a node's hooks or through them, and how to tell: for tests of the fast path in the guest.

Whether packets come past the hooks or through them is counted by a table of somebody else.
"""

import re
import socket
import time
from contextlib import contextmanager

from felixlite.lab.traffic import DATAGRAMS
from felixlite.policy.fastpath import TABLE
from tests.support.cni import eventually

PODS, SERVICE = "10.65.0.0/16", "10.96.0.1"
SOMEBODYS = f"""table ip somebodys {{
    counter seen {{ }}
    chain seen {{
        type filter hook prerouting priority -500;
        meta l4proto {{ tcp, udp }} ip saddr {PODS} counter name seen
    }}
    chain services {{
        type nat hook prerouting priority dstnat;
        ip daddr {SERVICE} udp dport {DATAGRAMS} dnat to 10.65.2.10
    }}
}}"""


class Talk:
    """Datagrams from one socket to another and back."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.seen_from = None

    def exchange(self, size=100):
        """Whether one came there and its answer back."""
        try:
            self.client.send(b"x" * size)
            data, self.seen_from = self.server.recvfrom(2000)
            self.server.sendto(data, self.seen_from)
            return self.client.recv(2000) == data
        except TimeoutError:
            return False

    def exchange_until(self, what):
        eventually(lambda: self.exchange() and what(), 30)

    def wait(self, seconds):
        """How long for a datagram, from now on."""
        for each in (self.client, self.server):
            each.settimeout(seconds)


@contextmanager
def talk(client_space, server_space, server, *, to="", port=DATAGRAMS):
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    there = server_space.run(socket.socket, family, socket.SOCK_DGRAM)
    here = client_space.run(socket.socket, family, socket.SOCK_DGRAM)
    with there, here:
        there.bind((server, port))
        here.connect((to or server, port))
        talking = Talk(here, there)
        talking.wait(10.0)
        yield talking


# -- what can be seen of the fast path


def offloaded(space, word=2):
    """Protocols (or families, the first word) of the connections in the flowtable, as connection tracking tells it."""
    lines = space.command("cat", "/proc/net/nf_conntrack").splitlines()
    return sorted({line.split()[word] for line in lines if "[OFFLOAD]" in line})


def hooks_saw(space):
    """How many packets of pods have come through the node's hooks since the last time."""
    told = space.command("nft", "reset", "counter", "ip", "somebodys", "seen")
    return int(re.search(r"packets (\d+)", told)[1])


def past_the_hooks(space):
    """Whether everything goes past them for half a second, at 50 datagrams a second and more each way."""
    hooks_saw(space)
    time.sleep(0.5)
    return hooks_saw(space) == 0


def devices(space):
    listing = space.command("nft", "list", "table", "inet", TABLE)
    return set(re.search(r"devices = \{ (.*) \}", listing)[1].split(", "))
