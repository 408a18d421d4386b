"""kubectl in a lab: `felixlite apiserver` beside the lab's etcd, started when somebody first asks for it.

It listens on the management network, which only the lab's namespaces can reach: `lab kubectl` runs kubectl in there.
"""

import shutil
from pathlib import Path

from felixlite.errors import FelixliteError, Misconfigured
from felixlite.lab import world
from felixlite.lab.lab import Lab

PORT = 6443


def kubeconfig(lab: Lab) -> Path:
    """The path of a kubeconfig whose server answers."""
    path = lab.directory / "kubeconfig"
    if not _running(lab):
        path.unlink(missing_ok=True)
        world.start(lab.topology.switch, _command(lab, path), lab.directory / "apiserver.log")
        world.wait_for(lambda: path.exists() and _listens(lab), "an answer of the API server", 60)
    return path


def kubectl(lab: Lab, *arguments: str) -> list[str]:
    """The command; for whoever runs it in the place of this process."""
    if not shutil.which("kubectl"):
        raise Misconfigured("there is no kubectl here: apt-get install kubernetes-client")
    return world.inside(lab.topology.switch, ["kubectl", "--kubeconfig", str(kubeconfig(lab)), *arguments])


def _command(lab: Lab, path: Path) -> list[str]:
    address = str(lab.topology.store_addresses[0].ip)
    state = ["--state-dir", str(lab.directory / "apiserver"), "--kubeconfig-out", str(path)]
    return [*lab.command, "apiserver", "--host", address, "--port", str(PORT), "--name", address, *state]


def _running(lab: Lab) -> bool:
    return any(" apiserver " in world.command_of(pid) for pid in world.processes(lab.topology.switch))


def _listens(lab: Lab) -> bool:
    if not _running(lab):
        log = (lab.directory / "apiserver.log").read_text().splitlines()[-3:]
        raise FelixliteError("\n".join(["the API server of the lab ended:", *log]))
    return f":{PORT} " in world.run(["ss", "-Hltn"], namespace=lab.topology.switch)
