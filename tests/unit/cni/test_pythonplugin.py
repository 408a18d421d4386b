import subprocess
import sys
from pathlib import Path

import pytest

from felixlite.cni.pythonplugin import DISTRIBUTION, Unfit, first_line, made_for, python_plugin
from felixlite.errors import Misconfigured

HERE = Path(sys.executable).resolve()


def versions(plugin: bytes, folder: Path) -> str:
    """What it answers to VERSION, exec'd as a runtime does it."""
    path = folder / "felixlite"
    path.write_bytes(plugin)
    path.chmod(0o755)
    done = subprocess.run([path], env={"CNI_COMMAND": "VERSION"}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def program(path: Path, script: str) -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_it_runs_its_compiled_form(tmp_path: Path) -> None:
    made = made_for(HERE)
    source = made.index(b'"""The CNI plugin')
    spoilt = made[:source] + b"!" + made[source + 1 :]
    assert '"1.1.0"' in versions(spoilt, tmp_path)


def test_another_version_of_the_interpreter_runs_its_source(tmp_path: Path) -> None:
    made = made_for(HERE)
    mark = b"hexversion == %d" % sys.hexversion
    assert made.count(mark) == 1
    other = made.replace(mark, b"hexversion == %d" % (sys.hexversion + 1))
    end = other.rindex(b"a public name; tearing the interpreter down takes 2 ms\n")
    without_compiled = other[: other.index(b"\n", end) + 1]
    assert versions(without_compiled, tmp_path) == versions(made, tmp_path)


def test_the_first_interpreter_that_can_run_it_is_taken(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n")
    other = program(tmp_path / "other", "#!/bin/sh\nexit 0\n")
    plugin, interpreter = python_plugin([tmp_path / "missing", old, other, HERE])
    assert interpreter == HERE
    assert plugin.startswith(f"#!{HERE} ".encode())
    assert '"1.1.0"' in versions(plugin, tmp_path)


def test_where_none_can_run_it_each_is_named_with_its_reason(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n")
    with pytest.raises(Misconfigured, match=r"missing: No such file.*old: SyntaxError.*install python3"):
        python_plugin([tmp_path / "missing", old])


def test_the_distributions_python_is_preferred() -> None:
    _, interpreter = python_plugin()
    assert interpreter == (DISTRIBUTION if DISTRIBUTION.exists() else HERE)


@pytest.mark.parametrize("path", ["/" + "long/" * 50 + "python3", "/opt/my python/bin/python3"])
def test_a_path_that_the_kernel_would_cut_is_not_taken(path: str) -> None:
    with pytest.raises(Unfit, match="first line"):
        first_line(Path(path))
