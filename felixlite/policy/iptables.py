"""The iptables backend, legacy and nft flavour: ip sets, then chains, one `iptables-restore --noflush` a round.

The whole table of one family is read with `iptables-save` and `ipset save`.  Our jumps in the kernel's chains are placed
last, when what they lead to is there: by python-iptables on legacy hosts (xtables.py), in the same text on others.
The programs that it starts live in the network namespace of the calling thread.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from felixlite.policy import ipset, rows, xtables
from felixlite.policy.apart import Busy, Refused, groups, halved, silenced, speak_alike
from felixlite.policy.counting import Counts
from felixlite.policy.iptables_listing import BEHIND_IPVS, Hook, Saved, counts, hooks, saved
from felixlite.policy.iptables_text import HOOK, Chains, Spelling, restore_text
from felixlite.policy.plan import table_name
from felixlite.policy.rows import Chained, Dispatch, Gates, IpSet, Key, Row, ServiceGates

Flavour = Literal["legacy", "nft"]


def read_counts(family: int, flavour: Flavour) -> Counts:
    """What our rules of the family have counted."""
    return counts(ipset.run([f"{_program(family, flavour)}-save", "-c"]))


def _program(family: int, flavour: Flavour) -> str:
    return f"{'iptables' if family == 4 else 'ip6tables'}-{flavour}"


def _unhooking(hook: Hook) -> tuple[str, str]:
    return hook.table, f'-D {hook.chain} -m comment --comment "{HOOK}" -j {hook.target}'


class IptablesTable:
    guard = True

    def __init__(self, family: int, flavour: Flavour) -> None:
        self.name = table_name(family)
        self.family = family
        self.flavour = flavour
        self.program = _program(family, flavour)
        self.spelling = Spelling(family)
        self.insert = True
        self.behind_ipvs = False
        self.sets: dict[Key, IpSet] = {}
        self.known = Saved({}, {})
        self.sizes: xtables.Sizes = {}

    # -- tables.Table

    def read(self) -> Mapping[Key, Row]:
        if self.flavour == "legacy":  # first: what changes while the tables are read is seen by its size
            self.sizes = xtables.sizes(self.family)
        return self._read()

    def _read(self) -> Mapping[Key, Row]:
        self.sets = ipset.read(self.family)
        self.known = saved(self._save(), insert=self.insert)
        return {**self.sets, **self.known.rows}

    def upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        self.take_settings(items)
        if all(isinstance(row, IpSet) for row in items.values()):
            return self._upsert(items)
        try:
            with self._alone():
                return self._upsert(items)
        except Busy as error:
            return dict.fromkeys(items, error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of legacy tables, and note how large we leave them: another size is another's doing (watch.py).

        What somebody did before we had the lock is not noted as ours: the old size stays, and is found to be wrong.
        """
        if self.flavour != "legacy":
            yield
            return
        with xtables.locked():
            untouched = xtables.sizes(self.family) == self.sizes
            yield
            if untouched:
                self.sizes = xtables.sizes(self.family)

    def _upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        try:
            self._write(items)
        except Refused:
            return self._write_apart(items)
        return {}

    def delete(self, keys: Collection[Key]) -> Mapping[Key, Exception]:
        failed: dict[Key, Exception] = {}
        chains = [key for key in keys if key in self.known.chains]
        try:
            if chains:
                with self._alone():
                    self._remove_chains(chains)
        except Refused as error:
            failed = dict.fromkeys(chains, error)
        in_use = ipset.destroy([key for key in keys if key in self.sets], self.family)
        self.sets = {key: row for key, row in self.sets.items() if key not in keys or key in in_use}
        return failed | in_use

    # -- writing

    def _write(self, items: Mapping[Key, Row]) -> None:
        speak_alike(items, self.known.rows)
        sets = {key: row for key, row in items.items() if isinstance(row, IpSet)}
        ipset.write(self.sets, sets, self.family)
        self.sets.update(sets)
        self._write_chains({key: row for key, row in items.items() if not isinstance(row, IpSet)})

    def _write_chains(self, items: Mapping[Key, Row]) -> None:
        if not items:
            return
        by_key = {key: self.spelling.chains(key, row) for key, row in items.items()}
        chains: Chains = {where: rules for found in by_key.values() for where, rules in found.items()}
        gone = [where for key in by_key for where in self.known.chains.get(key, ()) if where not in chains]
        wanted = self._hooks_of(items)
        lines = list(self._hook_lines(wanted)) if self.flavour == "nft" else []
        if self.flavour == "legacy" and wanted:
            self._place(wanted)
        unhooked = self._unneeded(items)
        lines += [_unhooking(hook) for hook in unhooked]
        self._restore(restore_text(chains, gone, lines))
        self.known = Saved(
            {**self.known.rows, **items},
            {**self.known.chains, **{key: tuple(found) for key, found in by_key.items()}},
            tuple(hook for hook in self.known.misplaced if hook not in wanted),
            tuple({*self.known.hooked, *wanted}.difference(unhooked)),
        )

    def _hooks_of(self, items: Iterable[Key]) -> list[Hook]:
        """The jumps that have to be placed with these rows."""
        keys = set(items)
        found = [
            hook
            for hook in hooks(insert=self.insert, behind_ipvs=self.behind_ipvs)
            if (rows.NAT if hook.table == "nat" else rows.GATES) in keys
        ]
        return [hook for hook in found if hook in self.known.misplaced or hook not in self.known.hooked]

    def _unneeded(self, items: Collection[Key]) -> list[Hook]:
        """The jump of ipvs mode, when gates are written that lead nowhere from there."""
        leaving = rows.GATES in items and not self.behind_ipvs
        return [hook for hook in self.known.hooked if leaving and hook == BEHIND_IPVS]

    def _place(self, wanted: Iterable[Hook]) -> None:
        """By python-iptables, which reads and writes the whole table: before ours are in it, where they are not yet.

        Until then our chains are empty, which decides nothing.
        """
        there = {where for places in self.known.chains.values() for where in places}
        empty: Chains = {where: [] for hook in wanted if (where := (hook.table, hook.target)) not in there}
        if empty:
            self._restore(restore_text(empty))
        xtables.place(self.family, wanted)

    def _hook_lines(self, wanted: Iterable[Hook]) -> Iterator[tuple[str, str]]:
        for hook in wanted:
            rule = f'-m comment --comment "{HOOK}" -j {hook.target}'
            for _ in range(self.known.hooked.count(hook)):
                yield hook.table, f"-D {hook.chain} {rule}"
            yield hook.table, f"-I {hook.chain} 1 {rule}" if hook.first else f"-A {hook.chain} {rule}"

    def take_settings(self, items: Mapping[Key, Row]) -> None:
        """The mask of marks and the place of the hooks, as the wanted gates say."""
        gates = items.get(rows.GATES)
        if isinstance(gates, Chained) and isinstance(gates.body, Gates):
            self.spelling = Spelling(self.family, gates.body.mark_mask)
            self.insert = gates.body.insert
            self.behind_ipvs = isinstance(gates.body, ServiceGates)

    def _write_apart(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        """Read again what is there, then write in groups, halving those that are refused."""
        try:
            self._read()
        except Refused as error:
            return dict.fromkeys(items, error)
        if failed := halved(silenced(items, self.known.rows), self._write):
            return dict.fromkeys(items, next(iter(failed.values())))
        # the gates lead to the dispatch, which drops everything while it is empty
        empty = {key: Dispatch(row.direction, frozenset()) for key, row in items.items() if isinstance(row, Dispatch)}
        failed = halved({key: row for key, row in empty.items() if key not in self.known.rows}, self._write)
        for group in groups(items):
            for key, row in group.items():
                if isinstance(row, Dispatch):
                    failed.update(self._dispatch_what_can_be(key, row))
            failed.update(halved({k: r for k, r in group.items() if not isinstance(r, Dispatch)}, self._write))
        return failed

    def _dispatch_what_can_be(self, key: Key, row: Dispatch) -> dict[Key, Exception]:
        """Interfaces whose chain could not be written stay out, so that what they send is dropped."""
        there = {chain for places in self.known.chains.values() for _, chain in places}
        possible = frozenset(pair for pair in row.chains if f"fl-{pair[1]}" in there)
        failed = halved({key: Dispatch(row.direction, possible)}, self._write)
        if missing := row.chains - possible:
            names = ", ".join(sorted(interface for interface, _ in missing))
            failed.setdefault(key, Refused(f"no chain for {names}; all that they send or get is dropped"))
        return failed

    # -- removing

    def _remove_chains(self, keys: Iterable[Key]) -> None:
        places = [where for key in keys for where in self.known.chains[key]]
        gone = {key for key in keys if key in (rows.GATES, rows.NAT)}
        unhooked = [hook for hook in self.known.hooked if (rows.NAT if hook.table == "nat" else rows.GATES) in gone]
        lines = list(map(_unhooking, unhooked))
        self._restore(restore_text({}, places, lines))
        removed = set(keys)
        self.known = Saved(
            {key: row for key, row in self.known.rows.items() if key not in removed},
            {key: places for key, places in self.known.chains.items() if key not in removed},
            (),
            tuple(hook for hook in self.known.hooked if hook not in unhooked),
        )

    # -- the programs

    def _save(self) -> str:
        return ipset.run([f"{self.program}-save"])

    def _restore(self, text: str) -> None:
        ipset.run([f"{self.program}-restore", "--noflush"], text, XTABLES_LOCKFILE=xtables.NO_LOCK)
