"""Builds the C plugin into the wheel where there is a compiler; without one the wheel is pure and shim.py is used."""

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PluginBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if version == "editable" or not compiler:
            return
        folder = Path(self.root) / "felixlite" / "cni"
        binary = folder / "felixlite-cni"
        command = [compiler, "-O2", "-s", "-static", "-o", str(binary), str(folder / "shim.c")]
        if subprocess.run(command, check=False).returncode:
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append("felixlite/cni/felixlite-cni")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        (Path(self.root) / "felixlite" / "cni" / "felixlite-cni").unlink(missing_ok=True)
