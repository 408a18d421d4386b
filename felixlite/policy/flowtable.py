"""The fast path as a reconcile.Table, through libnftables; and whether this kernel can have one.

A device that goes takes itself out of the flowtable; what is asked to be removed and is not there any more was removed.
Belongs to the network namespace of the thread that first reads it.
"""

from collections.abc import Collection, Mapping

from felixlite.policy.apart import Refused, halved
from felixlite.policy.fastpath import NAME, RULES, WHERE, Key, Row, Rules, devices_text, listed, made_anew, trial
from felixlite.policy.nftables import Ruleset


class FlowTable:
    name = NAME
    guard = False

    def __init__(self, ruleset: Ruleset | None = None) -> None:
        self.known: Mapping[Key, Row] = {}
        self._ruleset = ruleset

    # -- reconcile.Table

    def read_for(self, wanted: Mapping[Key, Row]) -> Mapping[Key, Row]:
        """Where nothing is wanted and nftables cannot be asked, there is nothing of ours."""
        try:
            return self.read()
        except (Refused, OSError):
            if wanted:
                raise
            return {}

    def read(self) -> Mapping[Key, Row]:
        tables = self._run("list tables inet").splitlines()
        self.known = listed(self._run(f"list table {WHERE}")) if f"table {WHERE}" in tables else {}
        return dict(self.known)

    def upsert(self, items: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        try:
            self._write(items)
        except Refused:
            self.read()
            return halved(dict(sorted(items.items(), key=lambda item: item[0] != RULES)), self._write)
        return {}

    def delete(self, keys: Collection[Key]) -> Mapping[Key, Exception]:
        try:
            self._remove(keys)
        except Refused as error:
            return dict.fromkeys(keys & self.read().keys(), error)
        return {}

    def links_of(self, key: Key, _: Row) -> list[str]:
        return [key.name] if key.kind == "device" else []

    def upon(self, names: frozenset[str], rows: Mapping[Key, Row]) -> Collection[Key]:
        return [key for key in rows if not names.isdisjoint(self.links_of(key, rows[key]))]

    # -- writing

    def _write(self, items: Mapping[Key, Row]) -> None:
        rules = items.get(RULES)
        if isinstance(rules, Rules):
            lines = [*made_anew(rules, _devices({**self.known, **items}))]
        else:
            lines = [*devices_text("add", _devices(items))]
        self._run("\n".join(lines))
        self.known = {**self.known, **items}

    def _remove(self, keys: Collection[Key]) -> None:
        there = self.read()
        if RULES in keys:
            self._run(f"delete table {WHERE}" if there else "")
            self.known = {}
        else:
            self._run("\n".join(devices_text("delete", _devices(there.keys() & set(keys)))))
            self.known = {key: row for key, row in there.items() if key not in keys}

    def _run(self, text: str) -> str:
        self._ruleset = self._ruleset or Ruleset()
        return self._ruleset.run(text) if text else ""


NEEDED = "the kernel has no flowtable (modules nf_flow_table_inet, nft_flow_offload, nft_fib_inet)"


def _devices(keys: Collection[Key]) -> set[str]:
    return {key.name for key in keys if key.kind == "device"}


def fault() -> str:
    """Why there can be no fast path here; empty: there can. Leaves nothing behind."""
    try:
        ruleset = Ruleset(check_only=True)
    except OSError as error:
        return str(error)
    try:
        ruleset.run(trial())
    except Refused as refused:
        return f"{NEEDED}: {str(refused).splitlines()[0]}"
    finally:
        ruleset.close()
    return ""
