"""The plugin beside `ptp` + `host-local`: exec to exit, one after the other, fifty at once, two hundred and fifty at once.

Everything is real: an agent with etcd and policy in a namespace of its own, pods' namespaces made beforehand, plugins
started with posix_spawn.  Ours and the yardstick take turns in every round, so both see the same machine; nobody is
charged for what the one before him left to the kernel or the agent, so between two the machine is left to come to rest.
The stages of an ADD are what the agent's metrics say of it, from the plugin's connecting to its answer.
"""

import json
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from felixlite.cni.install import install_plugin
from felixlite.kernel.namespaces import setns
from tests.support.agent import agent
from tests.support.etcd import etcd
from tests.support.netns import Namespace, namespace

ROUNDS = int(os.environ.get("CNI_ROUNDS", "60"))
REFERENCE = Path("/usr/lib/cni")
Row = dict[str, Any]


class Plugin:
    """One way to attach pods."""

    def __init__(self, name: str, binary: Path, config: Mapping[str, Any], folder: Path) -> None:
        self.name, self.binary = name, binary
        self.config = folder / f"{name}.json"
        self.config.write_text(json.dumps(config))
        self.said = folder / f"{name}.out"

    def start(self, command: str, container: str, netns: Path) -> int:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(netns),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(REFERENCE),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container}",
            "PATH": os.environ["PATH"],
        }
        files = [
            (os.POSIX_SPAWN_OPEN, 0, str(self.config), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, f"{self.said}.{container}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        return os.posix_spawn(str(self.binary), [str(self.binary)], environment, file_actions=files)

    def run(self, command: str, container: str, netns: Path) -> float:
        """Seconds from exec to exit."""
        began = time.perf_counter()
        _, status = os.waitpid(self.start(command, container, netns), 0)
        seconds = time.perf_counter() - began
        self.must_have_worked(command, container, status)
        return seconds

    def must_have_worked(self, command: str, container: str, status: int) -> None:
        if status:
            said = Path(f"{self.said}.{container}").read_text()
            raise RuntimeError(f"{self.name} {command} {container}: {said}")

    def burst(self, command: str, pods: Sequence[tuple[str, Path]]) -> float:
        """Seconds until all of them are done."""
        began = time.perf_counter()
        running = {self.start(command, container, netns): container for container, netns in pods}
        done = {pid: os.waitpid(pid, 0)[1] for pid in running}
        seconds = time.perf_counter() - began
        for pid, status in done.items():
            self.must_have_worked(command, running[pid], status)
        return seconds


# -- the world


@contextmanager
def pods(count: int) -> Iterator[list[Path]]:
    """Namespaces for pods."""
    names = [f"fcb-pod-{os.getpid()}-{number}" for number in range(count)]
    batch = "".join(f"netns add {name}\n" for name in names)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    try:
        yield [Path("/run/netns") / name for name in names]
    finally:
        batch = "".join(f"netns del {name}\n" for name in names)
        subprocess.run(["ip", "-batch", "-", "-force"], input=batch, text=True, check=False, capture_output=True)


# -- what is measured


def main() -> list[Row]:
    """In a process of its own, because it moves into a namespace."""
    answers: Any = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=_in_a_namespace, args=(answers,))
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError("the measurement failed")
    rows: list[Row] = answers.get()
    return rows


def _in_a_namespace(answers: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-bench-cni-"))
    try:
        with namespace("fcb") as net:
            setns(net.fd)
            _make_an_uplink(net)
            os.environ["FELIXLITE_PROMETHEUSMETRICSENABLED"] = "true"
            with etcd() as server, agent(server.url, folder, "bench") as running:
                answers.put(measured(folder, running.pid))
    finally:
        shutil.rmtree(folder)


def _make_an_uplink(net: Namespace) -> None:
    net.ip("link add eth0 type bridge")
    net.ip("addr add 192.0.2.1/24 dev eth0")
    net.ip("link set eth0 up")


def measured(folder: Path, pid: int) -> list[Row]:
    ours = {"cniVersion": "1.0.0", "name": "net", "type": "felixlite", "socket": str(folder / "cni.sock")}
    install_plugin(folder / "c", "compiled")
    install_plugin(folder / "python", "python")
    ipam = {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": str(folder / "host-local")}
    theirs = {"cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "ipam": ipam}
    c = Plugin("c", folder / "c" / "felixlite", ours, folder)
    python = Plugin("python", folder / "python" / "felixlite", ours, folder)
    ptp = Plugin("ptp", REFERENCE / "ptp", theirs, folder)
    at_rest(pid)
    alone = one_by_one([c, python, ptp], pid)
    return [*alone, *stages(), *fifty([c, python], ptp, pid), *two_hundred_and_fifty([c, python], pid)]


def stages() -> list[Row]:
    """Means over all ADDs so far, with either plugin."""
    with urllib.request.urlopen("http://127.0.0.1:9091/metrics", timeout=10) as page:
        text = page.read().decode()
    (count,) = re.findall(r"^felixlite_cni_add_seconds_count (\S+)", text, re.MULTILINE)
    found = re.findall(r'^felixlite_cni_add_seconds_sum{stage="(\w+)"} (\S+)', text, re.MULTILINE)
    return [
        row(f"  of an ADD, in the agent: {stage}", float(total) / float(count) * 1000, None, "ms")
        for stage, total in found
    ]


def one_by_one(plugins: Sequence[Plugin], pid: int) -> list[Row]:
    times: dict[tuple[str, str], list[float]] = {}
    with pods(1) as (warm,):
        for plugin in plugins:
            plugin.run("ADD", f"warm-{plugin.name}", warm)
            plugin.run("DEL", f"warm-{plugin.name}", warm)
            at_rest(pid)
    for number in range(ROUNDS):
        with pods(len(plugins)) as spaces:
            turn = number % len(plugins)
            for plugin, netns in zip([*plugins[turn:], *plugins[:turn]], spaces, strict=True):
                for command in ("ADD", "DEL"):
                    seconds = plugin.run(command, f"{plugin.name}-{number}", netns)
                    times.setdefault((plugin.name, command), []).append(seconds * 1000)
                    at_rest(pid, gone=command == "DEL")
    rows = []
    for name, command, what, of in (
        ("c", "ADD", "median", statistics.median),
        ("c", "ADD", "99th percentile", percentile_99),
        ("python", "ADD", "median", statistics.median),
        ("python", "ADD", "99th percentile", percentile_99),
        ("c", "DEL", "median", statistics.median),
        ("python", "DEL", "median", statistics.median),
    ):
        rows.append(
            row(f"CNI {command}, {name} plugin, {what}", of(times[name, command]), of(times["ptp", command]), "ms")
        )
    return rows


def percentile_99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def row(name: str, ours: float, yardstick: float | None, unit: str) -> Row:
    ratio = round(ours / yardstick, 3) if yardstick else None
    return {
        "name": name,
        "ours": round(ours, 3),
        "yardstick": yardstick and round(yardstick, 3),
        "ratio": ratio,
        "unit": unit,
    }


def fifty(ours: Sequence[Plugin], theirs: Plugin, pid: int) -> list[Row]:
    walls: dict[tuple[str, str], list[float]] = {}
    for turn in range(4):
        for plugin in [*ours, theirs] if turn % 2 else [theirs, *ours]:
            with pods(50) as spaces:
                named = [(f"{plugin.name}-b{turn}-{number}", netns) for number, netns in enumerate(spaces)]
                for command in ("ADD", "DEL"):
                    walls.setdefault((plugin.name, command), []).append(plugin.burst(command, named))
                    at_rest(pid, gone=command == "DEL")
    return [
        row(
            f"50 {command}s at once, {plugin.name} plugin, wall",
            statistics.median(walls[plugin.name, command]),
            statistics.median(walls[theirs.name, command]),
            "s",
        )
        for plugin in ours
        for command in ("ADD", "DEL")
    ]


def two_hundred_and_fifty(plugins: Sequence[Plugin], pid: int) -> list[Row]:
    """None fails: `burst` raises then."""
    before, rows = memory(pid), []
    for plugin in plugins:
        with pods(250) as spaces:
            named = [(f"{plugin.name}-all-{number}", netns) for number, netns in enumerate(spaces)]
            added = plugin.burst("ADD", named)
            deleted = plugin.burst("DEL", named)
        at_rest(pid)
        rows += [
            row(f"250 ADDs at once, {plugin.name} plugin, pods a second (at least 80)", 250 / added, 80, "1/s"),
            row(f"250 DELs at once, {plugin.name} plugin, pods a second", 250 / deleted, None, "1/s"),
            row("memory of the agent after 250 ADDs and DELs, to before", memory(pid), before, "MB"),
        ]
    return rows


def memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def at_rest(pid: int, *, gone: bool = True, seconds: float = 30) -> None:
    """Until the pods' links are gone (if asked for) and the agent has had nothing to compute for 10 ms."""
    deadline, before = time.monotonic() + seconds, -1
    while True:
        left = [name for _, name in socket.if_nameindex() if name.startswith(("cali", "veth"))]
        now = computed(pid)
        if now == before and not (gone and left):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the agent does not come to rest; links that are left: {left}")
        before = now
        time.sleep(0.01)


def computed(pid: int) -> int:
    """Nanoseconds on a processor, of all its threads."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total


if __name__ == "__main__":
    for found in main():
        print(found)
