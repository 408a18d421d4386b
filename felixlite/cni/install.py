"""Putting the plugin where a container runtime looks for it: the binary first, the conflist last and in one step.

A runtime takes a conflist that it sees for a network that is ready, so that is the last thing written and the first
thing removed.  The binary is the one that came with the wheel, else shim.c compiled here, else shim.py.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from felixlite.cni.compiling import Uncompiled, compile_plugin
from felixlite.cni.pythonplugin import python_plugin
from felixlite.cni.request import VERSIONS
from felixlite.errors import Misconfigured

HERE: Final = Path(__file__).parent
BUILT: Final = HERE / "felixlite-cni"  # by hatch_build.py
TYPE: Final = "felixlite"
DRAFT: Final = ".felixlite-"
CAPABILITIES: Final = {"portmap": {"portMappings": True}, "bandwidth": {"bandwidth": True}}
EXTRAS: Final[dict[str, dict[str, Any]]] = {"portmap": {"snat": True}}

How = Literal["auto", "built", "compiled", "python"]


@dataclass(frozen=True, slots=True)
class Settings:
    socket: Path = Path("/run/felixlite/cni.sock")
    network: str = "k8s-pod-network"
    version: str = "1.0.0"
    mtu: int = 0
    ipv6: bool = False
    chained: Sequence[str] = ()


def conflist(settings: Settings) -> dict[str, Any]:
    if settings.version not in VERSIONS:
        raise Misconfigured(f"--cni-version {settings.version}: must be one of {', '.join(VERSIONS)}")
    first: dict[str, Any] = {"type": TYPE, "socket": str(settings.socket)}
    if settings.mtu:
        first["mtu"] = settings.mtu
    if settings.ipv6:
        first["ipam"] = {"type": "felixlite-ipam", "assign_ipv4": "true", "assign_ipv6": "true"}
    first["capabilities"] = {"ips": True, "mac": True}
    others = [{"type": t, **EXTRAS.get(t, {}), "capabilities": CAPABILITIES.get(t, {})} for t in settings.chained]
    return {"cniVersion": settings.version, "name": settings.network, "plugins": [first, *others]}


def install(bin_directory: Path, conf_file: Path, settings: Settings, how: How = "auto") -> str:
    """Answers which kind of plugin was installed."""
    said = install_plugin(bin_directory, how)
    write(conf_file, json.dumps(conflist(settings), indent=2).encode() + b"\n", 0o644)
    return said


def uninstall(bin_directory: Path, conf_file: Path) -> list[Path]:
    """Answers what was there to remove. A file of another plugin under our name stays."""
    removed = []
    for path, is_ours in ((conf_file, _is_our_conflist), (bin_directory / TYPE, _is_our_plugin)):
        if path.exists() and is_ours(path):
            path.unlink()
            removed.append(path)
        _remove_drafts(path.parent)
    return removed


def install_plugin(bin_directory: Path, how: How = "auto") -> str:
    if how in ("auto", "built") and BUILT.exists():
        write(bin_directory / TYPE, BUILT.read_bytes(), 0o755)
        return "the C plugin of this installation"
    if how in ("auto", "compiled"):
        try:
            binary, compiler = compiled()
        except Uncompiled as problem:
            if how == "compiled":
                raise Misconfigured(f"the C plugin could not be compiled: {problem}; or use --plugin python") from None
        else:
            write(bin_directory / TYPE, binary, 0o755)
            return f"the C plugin, compiled with {compiler}"
    if how in ("auto", "python"):
        script, interpreter = python_plugin()
        write(bin_directory / TYPE, script, 0o755)
        slower = "6 ms slower a pod; install musl-tools, or gcc and libc6-dev, then run this again"
        return f"the Python plugin, run by {interpreter} ({slower})"
    raise Misconfigured("there is no C plugin in this installation and no C compiler here: use --plugin python")


def compiled() -> tuple[bytes, str]:
    """The plugin, and the compiler that made it."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / TYPE
        compiler = compile_plugin(binary)
        return binary.read_bytes(), compiler


def write(path: Path, content: bytes, mode: int) -> None:
    """All of it or nothing, also for those who are reading or running it now."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(path, content, mode)
    except OSError as error:
        raise Misconfigured(
            f"{path}: {error.strerror}; is that directory right, and may this user write to it?"
        ) from None


def _write(path: Path, content: bytes, mode: int) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=DRAFT, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(mode)
            Path(file.name).rename(path)
        except OSError:
            Path(file.name).unlink()
            raise


def _remove_drafts(directory: Path) -> None:
    for draft in directory.glob(f"{DRAFT}*"):
        draft.unlink(missing_ok=True)


def _is_our_conflist(path: Path) -> bool:
    try:
        return any(plugin.get("type") == TYPE for plugin in json.loads(path.read_bytes())["plugins"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_our_plugin(path: Path) -> bool:
    return b"felixlite agent" in path.read_bytes()
