from collections.abc import Iterator

import pytest

from felixlite.cni.install import install_plugin
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from tests.support.cni import POOL, PluginNode, node, pod
from tests.support.netns import Namespace


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Both plugins, built once."""
    folder = tmp_path_factory.mktemp("plugins")
    install_plugin(folder / "compiled", "compiled")
    install_plugin(folder / "python", "python")
    return {how: (folder / how / "felixlite").read_bytes() for how in ("compiled", "python")}


@pytest.fixture(params=["compiled", "python"])
def here(request: pytest.FixtureRequest, plugins: dict[str, bytes]) -> Iterator[PluginNode]:
    """A node, with each of the two plugins in turn."""
    with one_node(plugins[request.param]) as found:
        yield found


@pytest.fixture
def one(plugins: dict[str, bytes]) -> Iterator[PluginNode]:
    """A node with the C plugin: for what is the server's affair alone."""
    with one_node(plugins["compiled"]) as found:
        yield found


def one_node(plugin: bytes) -> "PluginContext":
    return PluginContext(plugin)


class PluginContext:
    def __init__(self, plugin: bytes) -> None:
        self.store = MemoryStore()
        self.store.create(Key("IPPool", "pool"), POOL)
        self.plugin = plugin
        self.context = node("fc", self.store)

    def __enter__(self) -> PluginNode:
        found = self.context.__enter__()
        found.plugin.parent.mkdir()
        found.plugin.write_bytes(self.plugin)
        found.plugin.chmod(0o755)
        return found

    def __exit__(self, *what: object) -> None:
        self.context.__exit__(None, None, None)


@pytest.fixture
def space() -> Iterator[Namespace]:
    """A pod's namespace."""
    with pod("fc") as found:
        yield found
