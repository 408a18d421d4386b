"""podman with the CNI back end and our conflist: two containers that reach each other, without Kubernetes."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from felixlite.cni.install import Settings, install
from tests.support.cni import PluginNode, eventually, nothing_is_left


@dataclass
class Podman:
    here: PluginNode
    folder: Path
    mounts: int  # the pid of a process whose mounts are podman's

    def __call__(self, *words: str) -> str:
        flags = [f"--root={self.folder}/root", f"--runroot={self.folder}/runroot", "--storage-driver=vfs"]
        flags += ["--cgroup-manager=cgroupfs", "--events-backend=file", f"--tmpdir={self.folder}/state"]
        # not `ip netns exec`: that mounts another /sys, and the container runtime misses its cgroups there
        inside = ["nsenter", f"--mount=/proc/{self.mounts}/ns/mnt", f"--net={self.here.net.path}"]
        command = [*inside, "podman", *flags, *words]
        environment = {**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def start(self, name: str = "") -> str:
        """A container that sleeps; answers its address. Without a name it gets one from podman, with a `_`."""
        flags = ["--detach", *(["--name", name] if name else []), "--network", "felix", "--cgroups=disabled"]
        flags += ["--log-driver=none"]
        flags += ["--ulimit=nofile=512:512", "--ulimit=nproc=512:512"]  # the defaults are more than some machines allow
        container = self("run", *flags, "--rootfs", f"{self.folder}/rootfs", "/bin/busybox", "sleep", "120")
        (found,) = json.loads(self("inspect", container))
        address: str = found["NetworkSettings"]["Networks"]["felix"]["IPAddress"]
        return address


@pytest.fixture
def podman(one: PluginNode) -> Iterator[Podman]:
    tmp_path = Path(tempfile.mkdtemp(prefix="fc-podman-"))  # podman wants a short one
    bin_folder, conf = tmp_path / "bin", tmp_path / "net.d"
    install(bin_folder, conf / "10-felix.conflist", Settings(one.run_directory / "cni.sock", "felix"), "compiled")
    (tmp_path / "rootfs" / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "apt-get install busybox-static"
    shutil.copy(busybox, tmp_path / "rootfs" / "bin" / "busybox")
    (tmp_path / "containers.conf").write_text(
        f'[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["{bin_folder}"]\nnetwork_config_dir = "{conf}"\n'
        'default_network = "felix"\n'
    )
    # crun refuses a machine with both versions of cgroups mounted
    prepare = "mount --make-rprivate / ; umount /sys/fs/cgroup/unified 2>/dev/null; echo; exec sleep 600"
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", prepare], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    found = Podman(one, tmp_path, holder.pid)
    try:
        yield found
    finally:
        found("rm", "--all", "--force", "--time=0")
        holder.kill()
        holder.wait()
        shutil.rmtree(tmp_path, ignore_errors=True)


def test_two_containers_of_podman_reach_each_other(podman: Podman) -> None:
    first, second = podman.start("a"), podman.start("b")
    assert podman.here.routes() == {first, second}
    for name, other in (("a", second), ("b", first)):
        assert "1 packets received" in podman("exec", name, "/bin/busybox", "ping", "-c1", "-W2", other)
    assert {document["spec"]["pod"] for document in podman.here.endpoints()} == {"a", "b"}  # podman says so in CNI_ARGS
    podman("rm", "--force", "--time=0", "a")
    assert podman.here.routes() == {second}
    eventually(lambda: len(podman.here.host_links()) == 1)


def test_a_container_that_podman_names_is_reached(podman: Podman) -> None:
    address = podman.start()
    (endpoint,) = podman.here.endpoints()
    assert "_" in endpoint["spec"]["pod"]
    assert "1 received" in podman.here.net.command("ping", "-c1", "-W2", address)
    podman("rm", "--force", "--time=0", endpoint["spec"]["pod"])
    eventually(lambda: nothing_is_left(podman.here))
