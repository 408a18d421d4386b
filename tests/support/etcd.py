"""Real etcd servers for tests: on free loopback ports, without fsync, gone with the test (and with a killed pytest).

    with etcd() as server:                       # started, answers
        connect(server.url)                      # etcd://127.0.0.1:PORT
        server.ctl("get", "/calico/", "--prefix", "--keys-only")   # etcdctl, what it printed
        server.freeze(); server.thaw()           # SIGSTOP, SIGCONT
        server.kill(); server.start()            # kill -9, and again with the same data and port
    with cluster(3) as members:                  # members[0].url is of one; cluster_url(members) of all

`etcd("--auth-token-ttl=2")` passes flags on; `tls=Certificates` serves TLS with its files.  Where any empty etcd will
do, a test takes one of the fixtures `shared_etcd` (one for the whole run) and `empty_etcd` (that one, wiped).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 15.0


@dataclass(frozen=True)
class Certificates:
    """Files of a server: what it shows, what it is signed by; `ca_of_clients`: it wants a client's certificate too."""

    ca: Path
    cert: Path
    key: Path
    ca_of_clients: Path | None = None


class Etcd:
    def __init__(
        self, folder: Path, name: str = "m0", flags: Sequence[str] = (), tls: Certificates | None = None, port: int = 0
    ) -> None:
        self.folder, self.name, self.flags, self.tls = folder, name, tuple(flags), tls
        self.port = port or free_port()
        self.peer_port = free_port()
        self.others: Sequence[Etcd] = (self,)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"etcd://{self.endpoint}" + (f"?cacert={self.tls.ca}" if self.tls else "")

    @property
    def pid(self) -> int:
        assert self._child, "etcd is not running"
        return self._child.pid

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def begin(self) -> None:
        """Start, without waiting: the first of several members answers only when another one is there."""
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", *self._arguments(), *self.flags]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(command, stdout=log, stderr=log, env=_plain_environment())

    def start(self) -> None:
        self.begin()
        self.wait()

    def wait(self) -> None:
        """Until it takes a read that needs a leader (or says why not to somebody without rights)."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._child, "etcd was not started"
            assert self._child.poll() is None, f"etcd ended: {self._tail()}"
            said = self._run_ctl("--command-timeout=1s", "get", "nothing")
            if said.returncode == 0 or b"user name is empty" in said.stderr:
                return
            time.sleep(0.02)
        raise TimeoutError(f"etcd does not answer within {PATIENCE:.0f} s: {self._tail()}")

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # until its last thread has stopped

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None

    def restore(self, snapshot: Path) -> None:
        """The data of a backup in place of its own, for the next start."""
        shutil.rmtree(self.folder / self.name)
        peer = f"http://127.0.0.1:{self.peer_port}"
        flags = [
            f"--name={self.name}",
            f"--initial-cluster={self.name}={peer}",
            f"--initial-advertise-peer-urls={peer}",
        ]
        self.ctl("snapshot", "restore", str(snapshot), f"--data-dir={self.folder / self.name}", *flags)

    def wipe(self) -> None:
        self.ctl("del", "", "--prefix")

    def ctl(self, *words: str) -> str:
        """One etcdctl command. AssertionError with what it said if it fails."""
        done = self._run_ctl(*words)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def _run_ctl(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        flags = [f"--endpoints={'https' if self.tls else 'http'}://{self.endpoint}"]
        if self.tls:
            flags += [f"--cacert={self.tls.ca}"]
            flags += [f"--cert={self.tls.cert}", f"--key={self.tls.key}"] if self.tls.ca_of_clients else []
        return subprocess.run(
            ["etcdctl", *flags, *words], capture_output=True, check=False, timeout=PATIENCE, env=_plain_environment()
        )

    def _arguments(self) -> list[str]:
        scheme = "https" if self.tls else "http"
        members = ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in self.others)
        words = [
            f"--name={self.name}",
            f"--data-dir={self.folder / self.name}",
            "--unsafe-no-fsync",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            f"--listen-client-urls={scheme}://{self.endpoint}",
            f"--advertise-client-urls={scheme}://{self.endpoint}",
            f"--listen-peer-urls=http://127.0.0.1:{self.peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self.peer_port}",
            f"--initial-cluster={members}",
            "--logger=zap",
            "--log-level=warn",
        ]
        if self.tls:
            words += [f"--cert-file={self.tls.cert}", f"--key-file={self.tls.key}"]
            if self.tls.ca_of_clients:
                words += ["--client-cert-auth", f"--trusted-ca-file={self.tls.ca_of_clients}"]
        return words

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


@contextmanager
def etcd(*flags: str, tls: Certificates | None = None) -> Iterator[Etcd]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-etcd-"))
    server = Etcd(folder, flags=flags, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@contextmanager
def cluster(size: int = 3, *flags: str) -> Iterator[list[Etcd]]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-etcd-"))
    members = [Etcd(folder, f"m{i}", flags) for i in range(size)]
    try:
        for member in members:
            member.others = members
            member.begin()
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            member.kill()
        shutil.rmtree(folder)


def cluster_url(members: Sequence[Etcd]) -> str:
    return "etcd://" + ",".join(member.endpoint for member in members)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _plain_environment() -> dict[str, str]:
    """Without proxies and without settings of somebody else's etcd."""
    keep = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith(("ETCD_", "ETCDCTL_"))}
    return {**keep, "ETCDCTL_API": "3"}
