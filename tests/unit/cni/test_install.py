import json
from pathlib import Path

import pytest

from felixlite.cni import install as installing
from felixlite.cni import shim
from felixlite.cni.install import Settings, conflist, install, uninstall, write
from felixlite.errors import Misconfigured


def test_the_conflist_names_the_socket_and_what_is_chained() -> None:
    found = conflist(Settings(Path("/x/cni.sock"), version="1.1.0", mtu=1400, chained=["portmap"]))
    assert (found["cniVersion"], found["name"]) == ("1.1.0", "k8s-pod-network")
    ours, portmap = found["plugins"]
    assert (ours["type"], ours["socket"], ours["mtu"]) == ("felixlite", "/x/cni.sock", 1400)
    assert portmap == {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}


def test_neither_plugin_waits_two_seconds_for_an_agent_that_says_nothing() -> None:
    in_c = (Path(shim.__file__).with_suffix(".c")).read_text()
    assert f"#define GREETING_MS {round(shim.GREETING * 1000)} " in in_c
    assert shim.GREETING < 2


def test_a_version_that_we_do_not_speak_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"0\.2\.0"):
        conflist(Settings(version="0.2.0"))


def test_installing_writes_both_files_and_uninstalling_removes_them(tmp_path: Path) -> None:
    plugin, conf = tmp_path / "bin" / "felixlite", tmp_path / "net.d" / "10-felixlite.conflist"
    install(plugin.parent, conf, Settings(), "python")
    assert plugin.stat().st_mode & 0o777 == 0o755
    assert plugin.read_bytes().startswith(b"#!/")
    assert json.loads(conf.read_text())["plugins"][0]["type"] == "felixlite"
    assert [path.name for path in plugin.parent.iterdir()] == ["felixlite"]
    assert set(uninstall(plugin.parent, conf)) == {plugin, conf}
    assert uninstall(plugin.parent, conf) == []


def test_uninstalling_leaves_what_somebody_else_wrote(tmp_path: Path) -> None:
    plugin, conf = tmp_path / "felixlite", tmp_path / "10.conflist"
    plugin.write_text("another program")
    conf.write_text('{"plugins": [{"type": "bridge"}]}')
    assert uninstall(tmp_path, conf) == []


def test_the_conflist_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def note(path: Path, content: bytes, mode: int) -> None:
        written.append(path.name)
        write(path, content, mode)

    monkeypatch.setattr(installing, "write", note)
    install(tmp_path, tmp_path / "10.conflist", Settings(), "python")
    assert written == ["felixlite", "10.conflist"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "felixlite" / "in the way").mkdir(parents=True)
    with pytest.raises(Misconfigured, match="felixlite"):
        write(tmp_path / "felixlite", b"new", 0o755)
    assert [path.name for path in tmp_path.iterdir()] == ["felixlite"]


def test_uninstalling_removes_what_a_killed_install_left(tmp_path: Path) -> None:
    (tmp_path / ".felixlite-killed").write_text("half of it")
    assert uninstall(tmp_path, tmp_path / "10.conflist") == []
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named() -> None:
    with pytest.raises(Misconfigured, match="/proc/nowhere"):
        write(Path("/proc/nowhere/felixlite"), b"", 0o755)


def test_without_a_compiler_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"no C compiler.*--plugin python"):
        install(tmp_path / "bin", tmp_path / "10.conflist", Settings(), "compiled")
    assert "Python plugin" in install(tmp_path / "bin", tmp_path / "10.conflist", Settings(), "auto")


def test_a_compiler_that_cannot_do_it_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("musl-gcc", 1), ("cc", 0)):
        compiler = tmp_path / name
        compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho built >"$2"\nexit {code}\n')
        compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install(tmp_path / "bin", tmp_path / "10.conflist", Settings(), "compiled").endswith(str(tmp_path / "cc"))
