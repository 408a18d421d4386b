"""The agent is away, hangs or dies: the runtime is told to come back, and what a DEL owes is not forgotten."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.cni import PluginNode, eventually, nothing_is_left
from tests.support.netns import Namespace


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)])
def test_without_an_agent_the_runtime_is_told_to_come_back(
    here: PluginNode, space: Namespace, command: str, code: int
) -> None:
    here.stop()
    ran = here.run(command, space)
    assert ran.code != 0
    assert ran.answer["code"] == code
    assert "felixlite agent" in ran.answer["details"]


def test_an_agent_that_hangs_is_as_good_as_none(here: PluginNode, space: Namespace) -> None:
    """The socket takes connections (the kernel does that), but nobody greets."""
    from felixlite import control

    here.stop()
    with control.bound(here.run_directory / "cni.sock"):
        ran = here.run("ADD", space)
    assert ran.answer["code"] == 11


@pytest.mark.parametrize(("socket", "folder"), [("a&<b>/cni.sock", "a&<b>"), (r"a\b/cni.sock", r"a\b")])
def test_the_socket_is_where_the_configuration_says_as_go_would_write_it(
    here: PluginNode, tmp_path: Path, socket: str, folder: str
) -> None:
    text = json.dumps(here.config(socket=f"{tmp_path}/{socket}"))
    for c in "&<>":
        text = text.replace(c, f"\\u{ord(c):04x}")
    assert here.run("DEL", stdin=text).code == 0
    assert [path.name for path in (tmp_path / folder / "cni-notes").iterdir()] == ["c1.eth0"]


def test_nobody_reads_the_answer(here: PluginNode) -> None:
    """The plugin fails: what it made, the runtime takes down with a DEL. It does not crash."""
    reading, writing = os.pipe()
    os.close(reading)
    plugin = subprocess.run(
        [here.plugin], env={"CNI_COMMAND": "VERSION"}, input=b"{}", stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (plugin.returncode, plugin.stderr) == (1, b"")


def test_an_agent_that_dies_over_a_request_is_told_apart_from_a_success(here: PluginNode, space: Namespace) -> None:
    from felixlite import control

    here.stop()
    listening = control.bound(here.run_directory / "cni.sock")

    def greet_and_die() -> None:
        with listening, listening.accept()[0] as caller:
            caller.send(b".")
            while caller.recv(65536):  # until all of the request is there
                pass

    dying = threading.Thread(target=greet_and_die)
    dying.start()
    assert here.run("ADD", space).answer["code"] == 11
    dying.join()


def test_del_without_an_agent_removes_the_link_and_is_finished_when_it_is_back(
    here: PluginNode, space: Namespace
) -> None:
    assert here.run("ADD", space).code == 0
    here.stop()
    deleted = here.run("DEL", space)
    assert (deleted.code, deleted.printed) == (0, "")
    assert [link["ifname"] for link in space.show("link")] == ["lo"]
    assert here.notes() == ["c1.eth0"]
    assert here.addresses() == 1
    here.start()
    eventually(lambda: nothing_is_left(here) and not here.notes())


def test_del_without_an_agent_and_a_namespace_is_a_note(here: PluginNode, space: Namespace) -> None:
    assert here.run("ADD", space).code == 0
    here.stop()
    assert here.run("DEL").code == 0
    assert here.run("DEL").code == 0
    assert here.notes() == ["c1.eth0"]
    here.start()
    eventually(lambda: nothing_is_left(here) and not here.notes())


def test_del_without_an_agent_never_touches_the_hosts_own_namespace(here: PluginNode) -> None:
    here.stop()
    here.net.ip("link add eth0 type bridge")
    environment = ["env", "CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", f"CNI_NETNS={here.net.path}"]
    here.net.command(*environment, str(here.plugin), stdin=json.dumps(here.config()))
    assert "eth0" in {link["ifname"] for link in here.net.show("link")}


def test_del_whose_note_cannot_be_left_says_so(here: PluginNode) -> None:
    here.stop()
    ran = here.run("DEL", socket="/proc/nowhere/cni.sock")
    assert ran.code != 0
    assert ran.answer["code"] == 5


def test_del_without_an_agent_still_refuses_what_is_no_container(here: PluginNode) -> None:
    here.stop()
    assert here.run("DEL", container="../../etc/passwd").answer["code"] == 4
    assert here.notes() == []


def test_an_add_takes_back_what_a_note_says(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space).code == 0
    one.stop()
    assert one.run("DEL", space).code == 0
    one.state = (50, "not yet: notes wait")
    one.start()
    one.state = (0, "")
    added = one.run("ADD", space)
    assert added.code == 0
    one.attachments.work_off_notes()
    assert one.routes() == {added.address}


def test_a_note_that_no_plugin_wrote_is_dropped(one: PluginNode) -> None:
    (one.run_directory / "cni-notes" / "rubbish").write_text("rubbish")
    one.attachments.work_off_notes()
    assert one.notes() == []


def test_the_draft_of_a_note_whose_writer_was_killed_goes_away(one: PluginNode) -> None:
    old, young = (one.run_directory / "cni-notes" / name for name in (".4711", ".4712"))
    for path in (old, young):
        path.write_text("CNI_COMM")
    os.utime(old, (0, 0))
    one.attachments.work_off_notes()
    assert one.notes() == [young.name]
