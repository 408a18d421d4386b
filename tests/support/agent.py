"""A real agent in a process of its own, to be asked, killed and started again.

with agent(server.url, folder) as running:      # in the namespace of the calling thread, ready
    running.kill(); running.start(); running.wait_until_ready()
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from felixlite import control
from felixlite.errors import FelixliteError

PATIENCE = 60.0


class RunningAgent:
    def __init__(self, store: str, folder: Path, node: str) -> None:
        self.folder = folder
        self.command = [sys.executable, "-m", "felixlite", "--store", store, "agent", "--node-name", node]
        self.command += ["--run-dir", str(folder), "--state-dir", str(folder)]
        self.environment = {
            **os.environ,
            "FELIXLITE_IPAUTODETECTIONMETHOD": "interface=eth0",
            "FELIXLITE_HEALTHENABLED": "false",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process, "the agent was not started"
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    def start(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)

    def wait_until_ready(self, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            assert self.process, "the agent was not started"
            assert self.process.poll() is None, f"the agent ended: {self.log[-2000:]}"
            try:
                if control.ask(self.folder / "agent.sock", "status")["ready"]:
                    return
            except FelixliteError:
                pass
            time.sleep(0.05)
        raise TimeoutError("the agent does not get ready: " + self.log[-2000:])

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None


@contextmanager
def agent(store: str, folder: Path, node: str = "n1") -> Iterator[RunningAgent]:
    running = RunningAgent(store, folder, node)
    running.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
        end_tunnel_processes()


def end_tunnel_processes() -> None:
    """Those in the calling thread's namespace: on a node they go on for the next agent, here there is none."""
    here = Path("/proc/thread-self/ns/net").readlink()
    for found in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if (found / "ns/net").readlink() == here and b"felixlite.ipip.userspace" in (
                found / "cmdline"
            ).read_bytes():
                os.kill(int(found.name), signal.SIGKILL)
