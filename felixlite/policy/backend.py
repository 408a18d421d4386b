"""The policy table of one family on whatever backend the host has; and the way from one backend to another.

    PolicyTable(4), PolicyTable(6)      # choose by themselves, in the network namespace of the thread that reads them
    PolicyTable(4, "legacy")            # does as it is told, until .use("nftables")

Left to themselves they look at the host when they are first read, and at what the gates say the operator wants; when
that changes, what is to be written is refused, so that the reconciler reads again and writes everything to the other one.

Rules of ours in a backend that is not in use are read as one row, LEFTOVER, that nobody wants.  So the reconciler
removes them as it removes everything: after what is wanted has been written.  During a move both sets of rules stand
for a moment and say the same; no packet is let through or dropped wrongly.
"""

import ctypes
import re
from collections.abc import Callable, Collection, Mapping
from typing import Literal, Protocol, get_args

from felixlite.policy import ipset, iptables, nftables
from felixlite.policy.apart import Refused
from felixlite.policy.choice import Backend, Host, choose
from felixlite.policy.counting import Tally, tallied
from felixlite.policy.iptables import IptablesTable
from felixlite.policy.iptables_text import Spelling
from felixlite.policy.nftables import NftablesTable, Ruleset
from felixlite.policy.plan import table_name
from felixlite.policy.rows import GATES, Chained, Gates, Key, Row
from felixlite.policy.xtables import Sizes

BACKENDS: tuple[Backend, ...] = get_args(Backend)


class _Table(Protocol):
    def take_settings(self, items: Mapping[Key, Row]) -> None: ...

    def read(self) -> Mapping[Key, Row]: ...

    def upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]: ...

    def delete(self, keys: Collection[Key]) -> Mapping[Key, Exception]: ...


def leftover(backend: Backend) -> Key:
    return Key("leftover", backend)


class PolicyTable:
    guard = True

    def __init__(self, family: int, backend: Backend | None = None) -> None:
        self.name = table_name(family)
        self.family = family
        self.backend: Backend = backend or "nftables"
        self.why = "as it was told" if backend else "it has not been read yet"
        self._told = backend is not None
        self._tables: dict[Backend, _Table] = {}
        self._wish: tuple[str, str] | None = None

    def use(self, backend: Backend) -> bool:
        """Write to this backend from now on. True when that is another one: the table has to be read again."""
        changed, self.backend, self._told = backend != self.backend, backend, True
        return changed

    def read_for(self, wanted: Mapping[Key, Row]) -> Mapping[Key, Row]:
        """What is in force, on the backend that the wanted gates and the host ask for."""
        self._decide(wanted)
        self._table(self.backend).take_settings(wanted)  # what is there is judged, and rows are spelled, by them
        return self.read()

    def _decide(self, items: Mapping[Key, Row]) -> bool:
        """Choose anew when the operator's wish is another one (or heard for the first time). True: another backend."""
        gates = _gates(items)
        if not gates or self._told or self._wish == (gates.nftables, gates.iptables):
            return False
        before = self.backend
        self.backend, self.why = choose(gates, look())
        self._wish = (gates.nftables, gates.iptables)
        return self.backend != before

    def read(self) -> Mapping[Key, Row]:
        rows = dict(self._table(self.backend).read())
        rows.update((leftover(other), Chained("leftover")) for other in BACKENDS if self._is_left(other))
        return rows

    def upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        if self._decide(items):
            return dict.fromkeys(items, Refused(f"{self.backend} is wanted now: reading again"))
        return self._table(self.backend).upsert(items)

    def delete(self, keys: Collection[Key]) -> Mapping[Key, Exception]:
        ours = [key for key in keys if key.kind != "leftover"]
        failed = dict(self._table(self.backend).delete(ours)) if ours else {}
        # the legacy one last: the sets go with it, and the rules of both flavours name them
        for key in sorted(keys, key=lambda key: key.name == "legacy"):
            if key.kind == "leftover":
                failed.update(self._clear(key))
        return failed

    @property
    def sizes(self) -> Sizes | None:
        """How large the tables of legacy iptables were when this one last left them; None: it writes to others."""
        table = self._tables.get(self.backend)
        return table.sizes if isinstance(table, IptablesTable) and self.backend == "legacy" else None

    def _table(self, backend: Backend) -> _Table:
        if backend not in self._tables:
            self._tables[backend] = make(self.family, backend)
        return self._tables[backend]

    def _is_left(self, backend: Backend) -> bool:
        """Whether rules of ours are in a backend that is not in use. Without its program there can be none."""
        if backend == self.backend:
            return False
        try:
            rows = self._table(backend).read()
        except (Refused, OSError):
            return False
        return any(self._goes(key, backend) for key in rows)

    def _goes(self, key: Key, backend: Backend) -> bool:
        """Both flavours of iptables use the same ip sets; they go with the legacy one, when nftables is in use."""
        return key.kind != "set" or backend == "nftables" or (self.backend == "nftables" and backend == "legacy")

    def _clear(self, key: Key) -> Mapping[Key, Exception]:
        backend = next(backend for backend in BACKENDS if backend == key.name)
        table = self._table(backend)
        failed = table.delete([row for row in table.read() if self._goes(row, backend)])
        return {key: next(iter(failed.values()))} if failed else {}


def _gates(items: Mapping[Key, Row]) -> Gates | None:
    row = items.get(GATES)
    return row.body if isinstance(row, Chained) and isinstance(row.body, Gates) else None


def make(family: int, backend: Backend) -> _Table:
    if backend == "nftables":
        return NftablesTable(family)
    return IptablesTable(family, backend)


# -- what is counted ---------------------------------------------------------------------------------------------------


def tally(family: int, backend: Backend, wanted: Mapping[Key, Row]) -> Tally:
    """Reads the packet filter anew: any thread may ask."""
    if backend == "nftables":
        return tallied(wanted, nftables.read_counts(family), lambda _: 1)
    spelling = Spelling(family)
    return tallied(wanted, iptables.read_counts(family, backend), lambda rule: len(spelling.rule(rule)))


# -- looking at the host -----------------------------------------------------------------------------------------------


def look() -> Host:
    legacy, nft = _saved("iptables-legacy-save"), _saved("iptables-nft-save")
    return Host(
        libnftables=_loads("libnftables.so.1"),
        kube_proxy_nftables=_tried(_kube_proxy_tables, "") != "",
        legacy_rules=_foreign(legacy),
        nft_rules=_foreign(nft),
        default_flavour=_default_flavour(),
        forward_drops=":FORWARD DROP" in nft or ":FORWARD DROP" in legacy,
    )


def _tried(function: Callable[[], str], otherwise: str) -> str:
    try:
        return function()
    except (Refused, OSError):
        return otherwise


def _saved(program: str) -> str:
    return _tried(lambda: ipset.run([program]), "")


def _foreign(saved: str) -> int:
    return sum(line.startswith("-A ") and "fl-" not in line for line in saved.splitlines())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _kube_proxy_tables() -> str:
    ruleset = Ruleset()
    try:
        tables = ruleset.run("list tables")
    finally:
        ruleset.close()
    return "kube-proxy" if re.search(r"^table ip6? kube-proxy$", tables, re.MULTILINE) else ""


def _default_flavour() -> Literal["legacy", "nft", ""]:
    version = _tried(lambda: ipset.run(["iptables", "--version"]), "")
    if "nf_tables" in version:
        return "nft"
    return "legacy" if version else ""
