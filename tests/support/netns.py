"""A network namespace for one test: made, entered by a thread, and always removed.

    with namespace("fk-routes") as net:            # the real name gets our pid, so that parallel runs do not meet
        net.ip("link add eth0 type bridge")         # `ip -n NAME ...`; raises with stderr when it fails
        net.run(lambda: socket.socket(...))        # in a thread that lives inside
        net.fd                                     # an open descriptor of the namespace, for Socket(netns=net.fd)

Lives in tests/support: everything that needs root and its own network uses it.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from felixlite.kernel.namespaces import setns
from felixlite.lab.world import processes

T = TypeVar("T")
_numbers = count()
# all namespaces of a machine share the xtables lock, and tests beside this one may hold it
LOCKING = {f"{name}-legacy{what}" for name in ("iptables", "ip6tables") for what in ("", "-restore")}


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def ip(self, command: str, *, family: int | None = None) -> str:
        """One `ip` command inside, e.g. ip("link set lo up")."""
        flags = [f"-{family}"] if family else []
        return self.command("ip", *flags, *command.split())

    def show(self, command: str) -> Any:
        """What `ip -j COMMAND` says, parsed."""
        return json.loads(self.command("ip", "-j", *command.split()) or "[]")

    def command(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program inside and answer what it printed; AssertionError with its stderr when it fails."""
        if argv[0] in LOCKING:
            argv = (argv[0], "-w", "60", *argv[1:])
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *argv], input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}: {done.stderr or done.stdout}"
        return done.stdout

    @contextmanager
    def process(self, *argv: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs inside for the length of the body."""
        with subprocess.Popen(["ip", "netns", "exec", self.name, *argv], **options) as process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the function in a thread inside; its value and its exception come back."""
        answer: list[T] = []
        failure: list[BaseException] = []

        def inside() -> None:
            try:
                setns(self.fd)
                answer.append(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  raised again below, in the caller's thread
                failure.append(error)

        thread = threading.Thread(target=inside, name=f"inside {self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return answer[0]

    def remove(self) -> None:
        os.close(self.fd)
        for pid in set(processes(self.name)) - {
            os.getpid()
        }:  # what goes on without its agent, as a tunnel process does
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


@contextmanager
def namespace(prefix: str) -> Iterator[Namespace]:
    """A new network namespace with lo up; it and everything in it is gone afterwards."""
    name = f"{prefix}-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    space = Namespace(name)
    try:
        space.ip("link set lo up")
        yield space
    finally:
        space.remove()


def connect(left: Namespace, left_link: str, right: Namespace, right_link: str) -> None:
    """A cable between two namespaces: a veth pair, both ends up."""
    left.ip(f"link add {left_link} type veth peer name {right_link} netns {right.name}")
    left.ip(f"link set {left_link} up")
    right.ip(f"link set {right_link} up")


def switch(name: str, space: Namespace) -> None:
    """A bridge inside, up, to plug several cables into (`ip link set X master NAME`)."""
    space.ip(f"link add {name} type bridge")
    with suppress(OSError):  # snooping delays multicast, where the kernel has it at all
        space.run(Path(f"/sys/class/net/{name}/bridge/multicast_snooping").write_text, "0")
    space.ip(f"link set {name} up")
