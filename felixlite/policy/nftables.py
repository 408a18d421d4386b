"""The nftables backend: our table of one family as a tables.Table, through libnftables.

One transaction a round, in libnftables' own text (twice as fast as its JSON, no process; docs/adr).  When the kernel
refuses a transaction, the table is read again and the rows are tried in smaller groups, so that a bad one fails alone
and what it guards stays closed: an endpoint without its chain is not in the dispatch map.

A Ruleset talks to the network namespace in which it is made.
"""

import ctypes
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from ctypes import c_bool, c_char_p, c_int, c_uint, c_void_p

from felixlite.policy import rows
from felixlite.policy.apart import Refused, groups, halved, removal_order, silenced, speak_alike
from felixlite.policy.costs import ACCOUNT, LIBRARY
from felixlite.policy.counting import Counts
from felixlite.policy.nftables_listing import Listed, counts, listed
from felixlite.policy.nftables_text import (
    DENY,
    TABLE,
    ChainText,
    Spelling,
    elements,
    family_name,
    map_declaration,
    set_declaration,
)
from felixlite.policy.plan import table_name
from felixlite.policy.rows import Chained, Dispatch, Gates, IpSet, Key, Row

_DISPATCHES = (rows.FROM_WORKLOADS, rows.TO_WORKLOADS)
_STATELESS, _NUMERIC_PROTOCOL = 1 << 2, 1 << 7  # NFT_CTX_OUTPUT_*, nftables/libnftables.h

# All contexts share one list of the machine's interfaces, which is freed with any of them (src/iface.c): used by two
# threads at once it ends the process.  The garbage collector may come by, so whoever is in there may enter again.
_ALONE = threading.RLock()


class Ruleset:
    """A libnftables context: text in, text out. Use it from one thread; others wait for each other."""

    def __init__(self, *, counters: bool = False, check_only: bool = False) -> None:
        self._library = library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(library, name).restype = c_char_p
            getattr(library, name).argtypes = [c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [c_void_p, c_uint]
        library.nft_ctx_set_dry_run.argtypes = [c_void_p, c_bool]
        library.nft_run_cmd_from_buffer.argtypes = [c_void_p, c_char_p]
        library.nft_run_cmd_from_buffer.restype = c_int
        self._context = library.nft_ctx_new(0)
        # two sockets and megabytes of what was listed: they go with the last who holds this, at the latest
        self.close = weakref.finalize(self, _freed, library, self._context)
        self.close.atexit = False
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, _NUMERIC_PROTOCOL | (0 if counters else _STATELESS))
        library.nft_ctx_set_dry_run(self._context, check_only)

    def run(self, text: str) -> str:
        """Run one transaction; answer what it prints. Refused says why, in libnftables' words."""
        with ACCOUNT.charged(LIBRARY, text):
            return self._run(text)

    def _run(self, text: str) -> str:
        with _ALONE:
            failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        errors = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise Refused(errors.decode(errors="replace").strip() or "libnftables refused without a word")
        return str(output.decode())


def _freed(library: ctypes.CDLL, context: int) -> None:
    with _ALONE:
        library.nft_ctx_free(context)


def read_counts(family: int) -> Counts:
    """What our rules of the family have counted."""
    ruleset = Ruleset(counters=True)
    try:
        return counts(ruleset.run(f"list table {family_name(family)} {TABLE}"))
    finally:
        ruleset.close()


def _hooked(chain: ChainText) -> str:
    return f"{{ {chain.base} policy accept; }}" if chain.base else ""


class NftablesTable:
    """Sets, chains, dispatch and NAT of one address family."""

    guard = True

    def __init__(self, family: int, ruleset: Ruleset | None = None) -> None:
        self.name = table_name(family)
        self.family = family
        self.ruleset = ruleset or Ruleset()
        self.where = f"{family_name(family)} {TABLE}"
        self.spelling = Spelling(family)
        self.known = Listed({}, {})

    # -- tables.Table

    def read(self) -> Mapping[Key, Row]:
        self.known = self._list()
        return dict(self.known.rows)

    def upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        self.take_settings(items)
        try:
            self._write(items)
        except Refused:
            return self._write_apart(items)
        return {}

    def delete(self, keys: Collection[Key]) -> Mapping[Key, Exception]:
        wanted = [key for key in keys if key in self.known.rows]
        try:
            self._remove(wanted)
        except Refused:
            return self._remove_apart(wanted)
        return {}

    # -- writing

    def _write(self, items: Mapping[Key, Row]) -> None:
        speak_alike(items, self.known.rows)
        chains = {key: self.spelling.chains(key, row) for key, row in items.items() if isinstance(row, Chained)}
        self.ruleset.run("\n".join(self._transaction(items, chains)))
        known, names = dict(self.known.rows), dict(self.known.chains)
        known.update(items)
        names.update({key: tuple(found) for key, found in chains.items()})
        self.known = Listed(known, names, ())

    def _transaction(self, items: Mapping[Key, Row], chains: Mapping[Key, Mapping[str, ChainText]]) -> Iterator[str]:
        """Empty, declare and fill; what nothing refers to any more goes last."""
        before = self.known
        there = {name for names in before.chains.values() for name in names}
        sets = {key.name: row for key, row in items.items() if isinstance(row, IpSet)}
        maps = {key.name: row for key, row in items.items() if isinstance(row, Dispatch)}
        texts = {name: chain for found in chains.values() for name, chain in found.items()}
        yield from (f"flush chain {self.where} {name}" for name in texts if name in there)
        yield from self._misshapen(sets)
        yield from self._declared(sets, maps, texts)
        for name, ip_set in sets.items():
            yield from self._set_difference(name, before.rows.get(Key("set", name)), ip_set)
        for name, dispatch in maps.items():
            yield from self._map_difference(name, before.rows.get(Key("dispatch", name)), dispatch)
        for key, found in chains.items():
            yield from (f"delete chain {self.where} {name}" for name in before.chains.get(key, ()) if name not in found)
        yield from (f"delete chain {self.where} {name}" for name in before.stray if name not in texts)

    def _declared(
        self, sets: Mapping[str, IpSet], maps: Mapping[str, Dispatch], texts: Mapping[str, ChainText]
    ) -> Iterator[str]:
        """Everything is there before the first rule that names it. Nothing when only elements come and go.

        Line by line: a block `table ... { }` takes libnftables 0.15 ms more, whatever is in it.
        """
        new = {name: ip_set for name, ip_set in sets.items() if not self._is_there(name, ip_set)}
        if not (new or maps or texts):
            return
        where = self.where
        if not self._stands():
            yield f"add table {where}"
            if maps or texts:
                yield from (self._map(key.name) for key in _DISPATCHES)
                yield f"add chain {where} {DENY}"
        if (rows.FROM_SENDERS.name in maps or "output-from" in texts) and rows.FROM_SENDERS not in self.known.rows:
            yield self._map(rows.FROM_SENDERS.name)
        yield from (
            f"add set {where} {name} {{ {set_declaration(row.kind, self.family)} }}" for name, row in new.items()
        )
        yield from (f"add chain {where} {name} {_hooked(chain)}" for name, chain in texts.items())
        for name, chain in texts.items():
            before = f"add rule {where} {name} "
            yield from [before + rule for rule in chain.rules]

    def _stands(self) -> bool:
        """Is what every chain may name there already?"""
        return DENY in self.known.chains.get(rows.GATES, ()) and all(key in self.known.rows for key in _DISPATCHES)

    def _is_there(self, name: str, ip_set: IpSet) -> bool:
        old = self.known.rows.get(Key("set", name))
        return isinstance(old, IpSet) and old.kind == ip_set.kind

    def _misshapen(self, sets: Mapping[str, IpSet]) -> Iterator[str]:
        """A set of ours that somebody made with another type cannot be filled; it can only be replaced."""
        for name, ip_set in sets.items():
            if Key("set", name) in self.known.rows and not self._is_there(name, ip_set):
                yield f"delete set {self.where} {name}"

    def _set_difference(self, name: str, old: Row | None, new: IpSet) -> Iterator[str]:
        """What comes is told with the declaration, where it may be: for `add element` libnftables first asks the kernel
        for all members of all sets with intervals, of both families (30 ms where one has 10,000)."""
        there = old.members if isinstance(old, IpSet) and old.kind == new.kind else frozenset()
        gone, come = there - new.members, new.members - there
        if gone and (len(gone) > len(new.members) or any("?" in member for member in gone)):
            yield f"flush set {self.where} {name}"
            gone, come = frozenset(), new.members
        if gone:
            yield f"delete element {self.where} {name} {{ {elements(new.kind, gone)} }}"
        if come and new.kind == "net":
            yield f"add element {self.where} {name} {{ {elements(new.kind, come)} }}"
        elif come:
            members = f"elements = {{ {elements(new.kind, come)} }}"
            yield f"add set {self.where} {name} {{ {set_declaration(new.kind, self.family)} {members}; }}"

    def _map_difference(self, name: str, old: Row | None, new: Dispatch) -> Iterator[str]:
        there = old.chains if isinstance(old, Dispatch) else frozenset()
        quote = "" if name == rows.FROM_SENDERS.name else '"'
        if gone := ", ".join(f"{quote}{one}{quote}" for one, _ in there - new.chains):
            yield f"delete element {self.where} {name} {{ {gone} }}"
        if come := ", ".join(f"{quote}{one}{quote} : goto {chain}" for one, chain in new.chains - there):
            yield self._map(name, f" elements = {{ {come} }};")

    def _map(self, name: str, holding: str = "") -> str:
        return f"add map {self.where} {name} {{ {map_declaration(name, self.family)}{holding} }}"

    def take_settings(self, items: Mapping[Key, Row]) -> None:
        """The mask of marks and the place of the hooks, as the wanted gates say."""
        gates = items.get(rows.GATES)
        if isinstance(gates, Chained) and isinstance(gates.body, Gates):
            self.spelling = Spelling(self.family, gates.body.mark_mask)

    # -- when a transaction is refused

    def _write_apart(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        """Read again what is there, then write in groups, halving those that are refused."""
        self.known = self._list()
        if failed := halved(silenced(items, self.known.rows), self._write):
            return dict.fromkeys(items, next(iter(failed.values())))
        for group in groups(items):
            if dispatch := {key: row for key, row in group.items() if isinstance(row, Dispatch)}:
                failed.update(self._dispatch_what_can_be(dispatch))
            else:
                failed.update(halved(group, self._write))
        return failed

    def _dispatch_what_can_be(self, items: Mapping[Key, Dispatch]) -> dict[Key, Exception]:
        """Interfaces whose chain could not be written stay out of the map, which drops what they send."""
        there = {name for names in self.known.chains.values() for name in names}
        failed: dict[Key, Exception] = {}
        for key, row in items.items():
            possible = frozenset(pair for pair in row.chains if pair[1] in there)
            failed.update(halved({key: Dispatch(row.direction, possible)}, self._write))
            if missing := row.chains - possible:
                names = ", ".join(sorted(interface for interface, _ in missing))
                failed.setdefault(key, Refused(f"no chain for {names}; all that they send or get is dropped"))
        return failed

    # -- removing

    def _remove(self, keys: Iterable[Key]) -> None:
        keys = sorted(keys, key=removal_order)
        if not keys:
            return
        if self.known.rows.keys() <= set(keys):
            self.ruleset.run(f"delete table {self.where}")
        else:
            steps = (self._emptying, self._deleting)
            self.ruleset.run("\n".join(line for step in steps for key in keys for line in step(key)))
        self.known = Listed(
            {key: row for key, row in self.known.rows.items() if key not in keys},
            {key: names for key, names in self.known.chains.items() if key not in keys},
        )

    def _emptying(self, key: Key) -> Iterator[str]:
        if key.kind == "dispatch":
            yield f"flush map {self.where} {key.name}"
        yield from (f"flush chain {self.where} {name}" for name in self.known.chains.get(key, ()))

    def _deleting(self, key: Key) -> Iterator[str]:
        if key.kind == "set":
            yield f"delete set {self.where} {key.name}"
        if key.kind == "dispatch":
            yield f"delete map {self.where} {key.name}"
        yield from (f"delete chain {self.where} {name}" for name in self.known.chains.get(key, ()))

    def _remove_apart(self, keys: Iterable[Key]) -> Mapping[Key, Exception]:
        self.known = self._list()
        failed: dict[Key, Exception] = {}
        for key in sorted(keys, key=removal_order):
            if key in self.known.rows:
                try:
                    self._remove([key])
                except Refused as error:
                    failed[key] = error
        return failed

    # -- reading

    def _list(self) -> Listed:
        tables = self.ruleset.run(f"list tables {family_name(self.family)}")
        if f"table {self.where}" not in tables.splitlines():
            return Listed({}, {})
        return listed(self.ruleset.run(f"list table {self.where}"), self.family)
