"""Network namespaces, cables and processes of a lab, and taking all of it down again.

A lab writes down a namespace before it makes it, and finds its processes by their living in one; so `clean` also works
after a lab was killed half-way, and never takes a namespace of somebody else for its own.  The machine's own network is
never touched: every cable ends in namespaces of the lab on both sides.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from felixlite.errors import FelixliteError, Misconfigured
from felixlite.kernel.namespaces import visiting
from felixlite.lab.topology import Machine, Topology

T = TypeVar("T")

NETNS = Path("/run/netns")
RUN = Path("/run/felixlite/lab")
BATCH_PATIENCE = 3.0


def need_root_and_iproute2() -> None:
    if os.geteuid() != 0:
        raise Misconfigured("a lab makes network namespaces: run it as root")
    try:
        run(["ip", "-V"])
    except FileNotFoundError:
        raise Misconfigured("there is no `ip` here: install iproute2") from None


def run(command: Sequence[str], *, stdin: str | None = None, namespace: str | None = None, check: bool = True) -> str:
    """Run a program to its end and answer what it printed; FelixliteError with its own words if it fails."""
    done = subprocess.run(inside(namespace, command), input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise FelixliteError(f"{' '.join(command)}: {words}")
    return done.stdout


def inside(namespace: str | None, command: Sequence[str]) -> list[str]:
    return [*(["ip", "netns", "exec", namespace] if namespace else []), *command]


def start(namespace: str, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> int:
    """Start a program that goes on; answers its pid. Its output goes to `log`."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            inside(namespace, command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    return child.pid


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0, every: float = 0.02) -> float:
    """Wait until it is so; answers how long that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise FelixliteError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(every)
    return time.monotonic() - began


# -- building


def directory(lab: str) -> Path:
    """Where a lab keeps what it remembers: its topology, its namespaces, logs, sockets."""
    return RUN / lab


def build(topology: Topology) -> None:
    """All namespaces and cables. One `ip -batch` a namespace: the cost is processes, not netlink."""
    machines = [*topology.router_machines(), *topology.node_machines(), topology.outside]
    make_namespaces(topology.name, [topology.switch, *(machine.namespace for machine in machines)])
    run(["ip", "-n", topology.switch, "-batch", "-"], stdin="".join(_switch(topology)))
    run(["ip", "-n", topology.switch, "-batch", "-"], stdin="".join(line for m in machines for line in _cables(m)))
    for machine in machines:
        settle(machine)


def make_namespaces(lab: str, names: Sequence[str]) -> None:
    if taken := [name for name in names if (NETNS / name).exists()]:
        raise FelixliteError(f"network namespaces {', '.join(taken)} exist already: choose another --name for the lab")
    with (directory(lab) / "namespaces").open("a") as ours:
        ours.writelines(f"{name}\n" for name in names)
    run(["ip", "-batch", "-"], stdin="".join(f"netns add {name}\n" for name in names))


def plug(topology: Topology, machine: Machine) -> None:
    """One more machine in a lab that is up."""
    make_namespaces(topology.name, [machine.namespace])
    run(["ip", "-n", topology.switch, "-batch", "-"], stdin="".join(_cables(machine)))
    settle(machine)


def _switch(topology: Topology) -> Iterable[str]:
    yield "link set lo up\n"
    for bridge in topology.bridges:
        yield f"link add {bridge} type bridge\nlink set {bridge} up\n"
    yield from (f"address add {address} dev mgmt\n" for address in topology.store_addresses)


def _cables(machine: Machine) -> Iterable[str]:
    for port in machine.ports:
        here = f"{machine.name}.{port.link}"
        yield f"link add {here} type veth peer name {port.link} netns {machine.namespace}\n"
        yield f"link set {here} master {port.bridge} up\n"


def settle(machine: Machine) -> None:
    """Addresses and routes, inside the machine."""
    lines = ["link set lo up\n"]
    for port in machine.ports:
        lines += [f"address add {port.address} dev {port.link}\n", f"link set {port.link} up\n"]
    lines += [f"route add {destination} via {gateway}\n" for destination, gateway in machine.routes]
    run(["ip", "-n", machine.namespace, "-batch", "-"], stdin="".join(lines))


def forward(namespace: str) -> None:
    """Let a machine route."""
    within(namespace, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))


def within(namespace: str, make: Callable[[], T]) -> T:
    """The result of `make()` run in a network namespace."""
    handle = os.open(NETNS / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with visiting(handle):
            return make()
    finally:
        os.close(handle)


# -- taking down


def namespaces(lab: str) -> list[str]:
    """Those that this lab made and that are still there."""
    ours = directory(lab) / "namespaces"
    names = dict.fromkeys(ours.read_text().split()) if ours.exists() else {}
    return [name for name in names if (NETNS / name).exists()]


def processes(namespace: str) -> list[int]:
    """Who lives in a namespace, by comparing what the kernel calls it."""
    try:
        wanted = (NETNS / namespace).stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "ns/net").stat().st_ino == wanted:
                    found.append(int(process.name))
            except OSError:
                continue  # it has just ended, or is a kernel thread
    return found


def kill(pids: Iterable[int], patience: float = 2.0) -> None:
    """SIGTERM, and SIGKILL for who does not listen."""
    waiting = [pid for pid in pids if _signal(pid, signal.SIGTERM)]
    deadline = time.monotonic() + patience
    while waiting and time.monotonic() < deadline:
        time.sleep(0.01)
        waiting = [pid for pid in waiting if _lives(pid)]
    for pid in waiting:
        _signal(pid, signal.SIGKILL)


def command_of(pid: int) -> str:
    """What a process was started as; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def signal_and_wait(pid: int, number: int, patience: float = 10.0) -> None:
    """Send a signal and wait for the end of the process."""
    _signal(pid, number)
    wait_for(lambda: not _lives(pid), f"the end of process {pid}", patience)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _lives(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own children must be reaped to be gone
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def clean(lab: str) -> int:
    """End all processes and remove all namespaces of this lab. Answers how many namespaces there were."""
    if directory(lab).exists() and not (directory(lab) / "pods.json").exists():
        _let_batches_end()
    names = namespaces(lab)
    for _ in range(3):  # an agent that is being ended may just have started a child again
        if not (left := [pid for name in names for pid in processes(name) if pid != os.getpid()]):
            break
        kill(left)
    if names:
        run(["ip", "-force", "-batch", "-"], stdin="".join(f"netns delete {name}\n" for name in names))
    shutil.rmtree(directory(lab), ignore_errors=True)
    return len(names)


def _let_batches_end() -> None:
    """An `up` that was killed half-way may have left an `ip` that goes on making its namespaces for a moment."""
    deadline = time.monotonic() + BATCH_PATIENCE
    while time.monotonic() < deadline and any(map(_is_batch, Path("/proc").iterdir())):
        time.sleep(0.02)


def _is_batch(process: Path) -> bool:
    return process.name.isdigit() and command_of(int(process.name)) == "ip -batch -"
