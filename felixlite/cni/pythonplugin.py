"""The Python plugin: shim.py, made by and for one interpreter.

The distribution's Python is preferred to the one that runs this: a virtual environment or a Python of the user's may be removed,
and then every DEL fails; and it starts 1.5 ms sooner a pod, because its modules are in the binary.  The interpreter compiles
shim.py itself, so whether it can run it is known before the runtime calls it.

Python keeps no compiled form of a script, reads it three times and asks whether it is a zip archive: 2.5 ms a pod.  So the
first line is all of the script (`-c`, as short as the kernel's limit wants it): it runs the second, and that one the compiled
form at the end, or the source before it with any other version that the interpreter's path may lead to one day.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from felixlite.errors import Misconfigured

SHIM: Final = Path(__file__).with_name("shim.py")
DISTRIBUTION: Final = Path("/usr/bin/python3")
LONGEST_FIRST_LINE: Final = 255  # execve(2), since Linux 5.1
COMPILE: Final = """
import _socket, marshal, posix, sys
code = compile(sys.stdin.buffer.read(), "felixlite", "exec", dont_inherit=True, optimize=2)
sys.stdout.buffer.write(b"%d\\n" % sys.hexversion + marshal.dumps(code))
"""


class Unfit(Exception):
    """This interpreter cannot run the plugin, and why."""


def python_plugin(interpreters: Sequence[Path] = ()) -> tuple[bytes, Path]:
    """The plugin, and the interpreter that it is for: the first one that is fit."""
    said = []
    for interpreter in interpreters or (DISTRIBUTION, Path(sys.executable).resolve()):
        try:
            return made_for(interpreter), interpreter
        except Unfit as problem:
            said.append(f"{interpreter}: {problem}")
    raise Misconfigured(
        f"there is no Python that can run the plugin ({'; '.join(said)}): install python3, or musl-tools"
    )


def made_for(interpreter: Path) -> bytes:
    source = SHIM.read_bytes()
    version, code = compiled_by(interpreter, source)
    load = f"import marshal; source = f.read({len(source)}); own = sys.hexversion == {version}"
    lines = [first_line(interpreter), f"{load}; exec(marshal.loads(f.read()) if own else source)\n"]
    return "".join(lines).encode() + source + code


def first_line(interpreter: Path) -> str:
    line = f'#!{interpreter} -IScimport sys;f=open(sys.argv[1],"rb");f.readline();exec(f.readline())\n'
    if len(line.encode()) > LONGEST_FIRST_LINE or len(str(interpreter).split()) != 1:
        raise Unfit("its path is too long or has a space in it, the kernel takes no such first line of a script")
    return line


def compiled_by(interpreter: Path, source: bytes) -> tuple[int, bytes]:
    try:
        done = subprocess.run([interpreter, "-ISc", COMPILE], input=source, capture_output=True, check=False)
    except OSError as error:
        raise Unfit(error.strerror) from None
    version, newline, code = done.stdout.partition(b"\n")
    if done.returncode or not newline:
        raise Unfit((done.stderr.decode(errors="replace").splitlines() or [f"it ended with {done.returncode}"])[-1])
    return int(version), code
