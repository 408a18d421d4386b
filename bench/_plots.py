"""A picture for each curve of a run: what was measured at several sizes, ours beside its yardstick. SVG, by hand.

Rows belong to one curve when their names differ in their first number only; the axes are logarithmic.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 340, 70, 50, 40
COLOURS = {"ours": "#1f6feb", "yardstick": "#8b949e"}
NUMBER = re.compile(r"\d[\d,]*")
Point = tuple[float, float]


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Name with N in the place of the size -> its rows, by size."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if size := NUMBER.search(row["name"]):
            name = f"{row['name'][: size.start()]}N{NUMBER.sub('N', row['name'][size.end() :])}"
            found.setdefault(name, []).append({**row, "size": float(size[0].replace(",", ""))})
    kept = {name: sorted(them, key=lambda row: row["size"]) for name, them in found.items()}
    return {name: them for name, them in kept.items() if len({row["size"] for row in them}) > 1}


def written(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    paths = []
    for name, them in curves(rows).items():
        lines = {what: _points(them, what) for what in COLOURS}
        if len(lines["ours"]) > 1:
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".svg"))
            paths[-1].write_text(svg(name, them[0]["unit"], {what: line for what, line in lines.items() if line}))
    return paths


def _points(rows: Sequence[dict[str, Any]], what: str) -> list[Point]:
    return [(row["size"], row[what]) for row in rows if isinstance(row[what], int | float) and row[what] > 0]


def svg(title: str, unit: str, lines: dict[str, list[Point]]) -> str:
    everything = [point for line in lines.values() for point in line]
    across, up = (
        _scale([x for x, _ in everything], LEFT, WIDTH - 20),
        _scale([y for _, y in everything], HEIGHT - BOTTOM, TOP),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{_text(title)} ({_text(unit)})</text>',
    ]
    for number, (what, points) in enumerate(lines.items()):
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[what]}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{COLOURS[what]}"/>' for x, y in points]
        parts += [
            f'<text x="{across(x):.1f}" y="{up(y) - 8:.1f}" text-anchor="middle">{y:.3g}</text>' for x, y in points
        ]
        parts.append(f'<text x="{WIDTH - 90}" y="{TOP + 16 * number}" fill="{COLOURS[what]}">{what}</text>')
    parts += [
        f'<text x="{across(x):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{x:,.0f}</text>'
        for x in sorted({x for x, _ in everything})
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _scale(values: Sequence[float], start: float, end: float) -> Any:
    low, high = math.log(min(values)), math.log(max(values))
    return lambda value: start + (end - start) * ((math.log(value) - low) / (high - low) if high > low else 0.5)


def _text(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;")
