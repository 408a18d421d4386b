"""Builds the C plugin into the wheel where there is a compiler; without one the wheel is pure and shim.py is used."""

import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PluginBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from felixlite.cni.compiling import Uncompiled, compile_plugin

        try:
            compile_plugin(self.binary)
        except Uncompiled:
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append("felixlite/cni/felixlite-cni")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.binary.unlink(missing_ok=True)

    @property
    def binary(self) -> Path:
        return Path(self.root) / "felixlite" / "cni" / "felixlite-cni"
