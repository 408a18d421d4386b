"""Witnesses: what tcpdump sees on a link while the body runs, and that no ping is lost while it does."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.netns import Namespace


@contextmanager
def seen(space: Namespace, link: str, what: str) -> Iterator[list[str]]:
    """The list is filled when the body is left."""
    lines: list[str] = []
    argv = ["ip", "netns", "exec", space.name, "tcpdump", "-l", "-U", "--immediate-mode", "-vnni", link, what]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr
        while "listening" not in (line := dump.stderr.readline()):
            assert line, "tcpdump did not start"
        try:
            yield lines
            time.sleep(0.2)  # what was on the way when the body ended has no event to wait for
        finally:
            dump.terminate()
            lines += dump.communicate(timeout=10)[0].replace("\n    ", " ").splitlines()


@contextmanager
def pinging(source: Namespace, target: str, interval: str = "0.005") -> Iterator[None]:
    """Pings all the while; afterwards none may be missing. Begins when the first answer of all has come."""
    first = ["ping", "-n", "-c", "1", "-W", "1", target]
    for _ in range(20):
        if (
            subprocess.run(
                ["ip", "netns", "exec", source.name, *first], stdout=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        ):
            break
    argv = ["ip", "netns", "exec", source.name, "ping", "-n", "-i", interval, target]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as ping:
        assert ping.stdout
        assert "PING" in ping.stdout.readline()
        assert "icmp_seq=1 " in ping.stdout.readline()
        yield
        ping.send_signal(signal.SIGINT)
        told = ping.communicate(timeout=10)[0]
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", told)
    assert counts, told[-300:]
    sent, received = map(int, counts.groups())
    # the last one may be under way when ping is told to stop; on a busy machine as many as ever were at a time (`pipe`)
    last = max(map(int, re.findall(r"bytes from .*icmp_seq=(\d+) ", told)), default=1)
    at_a_time = int((re.search(r", pipe (\d+)", told) or ("", "1"))[1])
    assert sent - received <= 1 or (received == last and sent - last <= at_a_time), told[-300:]
    assert sent > 10


def outer_header(lines: list[str]) -> tuple[str, str]:
    """TTL and flags of what IPIP put before the echo request."""
    request = next(line for line in lines if "echo request" in line)
    found = re.search(r"ttl (\d+), id \d+, offset 0, flags \[(\w+)\], proto IPIP", request)
    assert found, request
    return found[1], found[2]
