"""A lab killed with -9 wherever it is: `lab down` takes away all of it, and the machine is as it was."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from felixlite.lab import world
from tests.support.labs import lab_name

UP = [sys.executable, "-m", "felixlite", "lab", "up", "--nodes", "2", "--pods", "1", "--subnets", "1"]


def machine(name):
    """What a lab could leave behind on this machine, a line each. The kernel's counters go on, so they do not count."""
    links = [line.split()[1] for line in printed("ip", "-o", "link").splitlines()]
    filters = re.findall(r"^(?:-A.*|:\S+)", printed("iptables-legacy-save"), re.MULTILINE)
    others = [printed(*words).splitlines() for words in (("ip", "rule"), ("ip", "route"), ("nft", "list", "tables"))]
    return {*links, *filters, *(line for lines in others for line in lines), *namespaces(name), *processes(name)}


def printed(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def namespaces(name):
    return [each.name for each in world.NETNS.iterdir() if each.name.startswith(f"{name}-")]


def processes(name):
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [command for pid in pids if f"/{name}/" in (command := world.command_of(pid))]


@pytest.mark.parametrize("phase", range(5))
def test_down_cleans_up_after_a_kill_in_each_phase(phase):
    """Phase 0: while the namespaces are made; then after each line that `up` prints."""
    name = lab_name("k")
    before = machine(name)
    with subprocess.Popen([*UP, "--name", name], stdout=subprocess.PIPE, text=True) as up:
        if phase == 0:
            world.wait_for(lambda: len(world.namespaces(name)) > 1 or up.poll() is not None, "the first namespaces", 60)
        for _ in range(phase):
            assert up.stdout.readline()
        up.send_signal(signal.SIGKILL)

    done = subprocess.run([sys.executable, "-m", "felixlite", "lab", "down", "--name", name], check=False)

    assert done.returncode == 0
    assert namespaces(name) + processes(name) == []
    assert not world.directory(name).exists()
    # other tests run beside this one: what they made meanwhile goes again, what a lab left would stay
    world.wait_for(lambda: machine(name) <= before, "the machine being as it was", 120, every=0.5)
