"""BIRD, FRR and GoBGP as routers of a lab or a test: started in a namespace from a configuration that the caller wrote.

One small class per program, the same four things each: start and be ready, answer a question, stop by pid.  All files
(configuration, sockets, logs) live in one directory of the caller; no service manager, no file of the system's own.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.topology import RouterKind

FRR = Path("/usr/lib/frr")  # Debian does not put FRR's daemons on PATH

# What each kind needs: program -> Debian package.
PROGRAMS: Mapping[RouterKind, Mapping[str, str]] = {
    "bird": {"bird": "bird2"},
    "frr": {str(FRR / "bgpd"): "frr"},
    "gobgp": {"gobgpd": "gobgpd"},
}


@dataclass(slots=True)
class Router:
    """A running router program."""

    kind: RouterKind
    namespace: str
    directory: Path
    pids: list[int] = field(default_factory=list)

    def ask(self, *words: str) -> str:
        """A question in the program's own tongue: `show route`, `show bgp ipv4`, `global rib`."""
        return world.run(_ASK[self.kind](self, words), namespace=self.namespace)

    def configure(self, configuration: str) -> None:
        """A new configuration, without ending sessions that it does not change."""
        _write(self, configuration)
        if self.kind == "bird":
            self.ask("configure")
        elif self.kind == "gobgp":
            for pid in self.pids:
                os.kill(pid, 1)  # SIGHUP: read the file again
        else:
            raise FelixliteError("FRR takes a changed configuration through `ask`, line by line")

    def answers(self) -> bool:
        try:
            self.ask(*_READY[self.kind])
        except FelixliteError:
            return False
        return True

    def stop(self) -> None:
        world.kill(self.pids)


def start(
    kind: RouterKind, namespace: str, directory: Path, configuration: str, fib: bool = True, recovers: bool = False
) -> Router:
    """Start and wait until it answers. `fib`: put routes into the kernel (GoBGP never does).

    `recovers`: it tells its peers that it comes back from a graceful restart (FRR is told so by its configuration).
    """
    directory.mkdir(parents=True, exist_ok=True)
    router = Router(kind, namespace, directory)
    _write(router, configuration)
    log = directory / f"{kind}.log"
    for command in _commands(router, fib, recovers):
        router.pids.append(world.start(namespace, command, log))
    try:
        world.wait_for(router.answers, f"an answer of {kind} in {namespace}")
    except FelixliteError as error:
        router.stop()
        raise FelixliteError(f"{error}\n{log.read_text()[-2000:]}") from None
    return router


def _write(router: Router, configuration: str) -> None:
    path = _configuration(router)
    path.write_text(configuration)
    path.chmod(0o640)  # it may hold passwords
    if router.kind == "frr":
        for each in (router.directory, path):  # its daemons run as frr and insist on it
            shutil.chown(each, "frr", "frr")


def _configuration(router: Router) -> Path:
    return router.directory / {"bird": "bird.conf", "frr": "frr.conf", "gobgp": "gobgp.toml"}[router.kind]


def _commands(router: Router, fib: bool, recovers: bool = False) -> list[list[str]]:
    at, configuration = router.directory, str(_configuration(router))
    if router.kind == "bird":
        return [["bird", "-f", "-c", configuration, "-s", str(at / "bird.ctl"), *["-R"][:recovers]]]
    if router.kind == "gobgp":
        words = ["gobgpd", "-f", configuration, "--api-hosts", "127.0.0.1:50051", "--log-plain", "--pprof-disable"]
        return [[*words, *["--graceful-restart"][:recovers]]]
    vty = ["--vty_socket", str(at), "-A", "127.0.0.1", "-z", str(at / "zebra.sock")]
    zebra = [str(FRR / "zebra"), "-i", str(at / "zebra.pid"), "-f", configuration, *vty]
    bgpd = [str(FRR / "bgpd"), "-i", str(at / "bgpd.pid"), "-f", configuration, *vty]
    return [zebra, bgpd] if fib else [[*bgpd, "-n"]]


def _ask_bird(router: Router, words: tuple[str, ...]) -> list[str]:
    return ["birdc", "-r" if words[:1] == ("show",) else "-v", "-s", str(router.directory / "bird.ctl"), *words]


def _ask_frr(router: Router, words: tuple[str, ...]) -> list[str]:
    return ["vtysh", "--vty_socket", str(router.directory), *(part for word in words for part in ("-c", word))]


def _ask_gobgp(_router: Router, words: tuple[str, ...]) -> list[str]:
    return ["gobgp", *words]


_ASK = {"bird": _ask_bird, "frr": _ask_frr, "gobgp": _ask_gobgp}
_READY: Mapping[RouterKind, tuple[str, ...]] = {
    "bird": ("show", "status"),
    "frr": ("show bgp summary",),
    "gobgp": ("global",),
}


def version(kind: RouterKind) -> str:
    """What is installed, for messages and reports."""
    command = {"bird": ["bird", "--version"], "frr": [str(FRR / "bgpd"), "--version"], "gobgp": ["gobgpd", "--version"]}
    done = subprocess.run(command[kind], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]
