"""The agent's state as values that print well: status, settings, the plan and its differences. Pure.

answers.py answers the control socket with these; cli/agent.py turns them into text on a terminal.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from felixlite.config import Settings
from felixlite.loop import Loop, Round
from felixlite.mirrors import Mirror
from felixlite.rows import Link
from felixlite.snapshot import Snapshot
from felixlite.tables import Diff, Plan, merged


def row_text(table: str, key: Any, row: Any) -> str:
    """One row as a person would type it."""
    if isinstance(row, Link):
        return row.text(str(key))
    if table == "sysctls":
        return f"sysctl -w {str(key).replace('.', '%').replace('/', '.').replace('%', '/')}={row}"
    text = getattr(row, "text", None)
    words = text(key) if callable(text) else f"{key} {row}"
    return str(words).strip()


def plan_lines(plan: Plan) -> Iterator[str]:
    for table, slices in plan.items():
        for key, row in sorted(merged(slices, table).items(), key=lambda item: str(item[0])):
            yield f"{table:<13} {row_text(table, key, row)}"


def diff_lines(differences: Mapping[str, Diff]) -> Iterator[str]:
    """`+` what would be new, `~` what would be replaced, `-` what would go."""
    for table, diff in differences.items():
        for key, (before, after) in sorted(diff.upserts.items(), key=lambda item: str(item[0])):
            yield f"{'+' if before is None else '~'} {table:<13} {row_text(table, key, after)}"
        for key, row in sorted(diff.deletes.items(), key=lambda item: str(item[0])):
            yield f"- {table:<13} {row_text(table, key, row)}"


def config(settings: Settings) -> dict[str, Any]:
    return {
        "settings": {name: {"value": _plain(v.value), "from": v.origin} for name, v in settings.values.items()},
        "warnings": list(settings.warnings),
    }


def _plain(value: Any) -> Any:
    return [str(part) for part in value] if isinstance(value, tuple) else value


def snapshot(known: Snapshot) -> dict[str, Any]:
    """Everything known, secrets left out."""
    found: dict[str, Any] = {"here": known.here, "in_sync": sorted(known.in_sync)}
    for kind in Snapshot.__dataclass_fields__:
        value = getattr(known, kind)
        if isinstance(value, Mapping) and kind != "secrets":
            found[kind] = {_name(key): repr(item) for key, item in value.items()}
    return found


def _name(key: Any) -> str:
    plain_tuple = isinstance(key, tuple) and not hasattr(key, "_fields")
    return "/".join(str(part) for part in key if str(part)) if plain_tuple else str(key)


def table_status(mirror: Mirror) -> dict[str, Any]:
    failures = {str(key): f"{f.error} ({f.attempts} tries)" for key, f in mirror.failures.items()}
    if mirror.unreadable:
        failures["(reading)"] = str(mirror.unreadable.error)
    return {"rows": len(mirror.rows) if mirror.rows is not None else None, "failures": failures}


def round_status(told: Round | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "number": told.number,
        "cause": told.cause,
        "ms": round(told.seconds * 1000, 2),
        "written": sum(outcome.written for outcome in told.outcomes.values()),
        "removed": sum(outcome.removed for outcome in told.outcomes.values()),
    }


def _dark_uplinks(known: Snapshot) -> Iterator[str]:
    """The interface of this node's own address, when nothing can leave by it."""
    node = known.nodes.get(known.here)
    own = {str(address.ip) for address in (node.ipv4, node.ipv6) if address} if node else set()
    for link, address in known.link_addresses:
        seen = known.links.get(link)
        if str(address).partition("/")[0] in own and seen and not seen.up:
            yield f"{link}, which has this node's address {address}, is down or without a carrier: see to its cable"


def status(loop: Loop) -> dict[str, Any]:
    """The core's half of `felixlite status`; agent.py adds the sources."""
    known = loop.snapshot
    tables = {name: table_status(mirror) for name, mirror in loop.reconciler.mirrors.items()}
    degraded = [f"{name}: {key}: {why}" for name, t in tables.items() for key, why in t["failures"].items()]
    degraded += [f"planning: {loop.fault.error}"] if loop.fault else []
    degraded += [f"{kind} {name} is kept out: {why}" for (kind, name), why in known.rejected.items()]
    degraded += [f"{source} is not in sync" for source in sorted(loop.needs - known.in_sync)]
    degraded += _dark_uplinks(known)
    degraded += [
        f"BGP {peer} is {s.state}{f': {s.error}' if s.error else ''}; see `felixlite bgp peers`"
        for peer, s in known.sessions.items()
        if s.state != "Established"
    ]
    return {
        "node": known.here,
        "ready": loop.in_sync
        and loop.fault is None
        and not any(mirror.rows is None for mirror in loop.reconciler.mirrors.values()),
        "degraded": degraded,
        "notes": list(loop.notes()),
        "tables": tables,
        "last_round": round_status(loop.last_round),
        "rounds": loop.rounds,
        "pools": {p.name: {"cidr": str(p.cidr), "ipip": p.ipip, "vxlan": p.vxlan} for p in known.pools.values()},
        "nodes": len(known.nodes),
        "workloads": {"here": len(known.local_workloads), "elsewhere": len(known.remote_workloads)},
        "sessions": {
            peer: {"state": s.state, "since": s.since, "error": s.error} for peer, s in known.sessions.items()
        },
        "learned": len(known.learned),
    }
