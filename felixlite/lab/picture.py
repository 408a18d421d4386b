"""A picture of a lab that is up, as SVG: machines, cables, addresses, blocks, and how the first node reaches the others.

Nothing in it is known beforehand: addresses come from the lab's notes, blocks and ways from the kernels' routes.  The same lab
gives the same picture to the byte, so docs/pictures/lab.svg can be compared with a lab of today.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from felixlite.lab import world
from felixlite.lab.lab import Lab

COLUMN, BOX, LINE, EDGE = 232, 208, 18, 24
INK, PAPER, PALE = "#1f2933", "#ffffff", "#f1f5f9"
NODE, TUNNEL, NATIVE = "#2563eb", "#c2410c", "#15803d"


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as its kernel shows it."""

    name: str
    address: str
    subnet: str
    block: str
    pods: tuple[tuple[str, str], ...]
    ways: tuple[tuple[str, str], ...]  # (block of another node, how traffic goes there)


def picture(lab: Lab) -> str:
    nodes = sorted(_nodes(lab), key=lambda node: (node.subnet, node.name))
    routers = [(m.name, [str(port.address.ip) for port in m.ports]) for m in lab.topology.router_machines()]
    return drawn(nodes, routers, str(lab.topology.outside.address))


def _nodes(lab: Lab) -> Iterator[Seen]:
    for machine in lab.topology.node_machines():
        routes = world.run(["ip", "route", "show", "proto", "80"], namespace=machine.namespace)
        blocks = re.findall(r"^blackhole (\S+)", routes, re.MULTILINE)
        found = re.findall(r"^(\d\S+/\d+) via (\S+) dev (\S+)", routes, re.MULTILINE)
        ways = tuple((block, _way(device, via)) for block, via, device in found if block.startswith("10.244."))
        pods = tuple((pod.name, pod.address) for pod in lab.pods() if pod.node == machine.name)
        subnet = str(machine.ports[0].address.network)
        yield Seen(machine.name, str(machine.address), subnet, ", ".join(sorted(blocks)), pods, ways)


def _way(device: str, via: str) -> str:
    return {"tunl0": f"IPIP to {via}", "vxlan.calico": f"VXLAN to {via}"}.get(device, f"native, by {via}")


# -- drawing


def drawn(nodes: Sequence[Seen], routers: Sequence[tuple[str, Sequence[str]]], outside: str) -> str:
    subnets = list(dict.fromkeys(node.subnet for node in nodes))
    width = 2 * EDGE + COLUMN * len(nodes)
    tall = 76 + LINE * max(len(node.pods) for node in nodes)
    bar, top = 160, 198
    cable = bar - 26  # between the routers and the subnets
    parts = [*_hosts(routers, outside, cable)]
    columns = {subnet: [at for at, node in enumerate(nodes) if node.subnet == subnet] for subnet in subnets}
    middles = [EDGE + (each[0] + each[-1]) * COLUMN // 2 + BOX // 2 for each in columns.values()]
    ends = [*middles, *(EDGE + at * (BOX + 60) + BOX // 2 for at in range(1, len(routers) + 1))]
    parts += [_line(min(ends), cable, max(ends), cable), *(_line(x, cable, x, bar) for x in middles)]
    for subnet in subnets:
        parts += _subnet(subnet, columns[subnet], bar)
    for at, node in enumerate(nodes):
        parts += _node(node, EDGE + at * COLUMN, top, tall, bar)
    first = min(nodes, key=lambda node: node.name)
    parts += _ways(first, top + tall + 34)
    height = top + tall + 50 + LINE * len(first.ways) + EDGE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = 'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13"'
    paper = f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    return "\n".join([f"{head} {style}>", paper, *parts, "</svg>", ""])


def _hosts(routers: Sequence[tuple[str, Sequence[str]]], outside: str, cable: int) -> Iterator[str]:
    """The outside on the left, the routers beside it; what they are cabled to below them."""
    yield from _box(EDGE, EDGE, INK)
    yield from _words(EDGE, EDGE, ["outside", outside, "has never heard of pods"])
    for at, (name, addresses) in enumerate(routers, 1):
        x = EDGE + at * (BOX + 60)
        yield _line(x - 60, EDGE + 34, x, EDGE + 34)
        yield _line(x + BOX // 2, EDGE + 84, x + BOX // 2, cable)
        yield from _box(x, EDGE, INK)
        yield from _words(x, EDGE, [f"{name}, router", *addresses[:2], *(["..."] if len(addresses) > 3 else [])])


def _subnet(subnet: str, columns: Sequence[int], bar: int) -> Iterator[str]:
    left, right = EDGE + columns[0] * COLUMN, EDGE + columns[-1] * COLUMN + BOX
    yield f'<rect x="{left}" y="{bar - 11}" width="{right - left}" height="22" rx="11" fill="{INK}"/>'
    yield f'<text x="{(left + right) // 2}" y="{bar + 5}" text-anchor="middle" fill="{PAPER}">{subnet}</text>'


def _node(node: Seen, x: int, y: int, tall: int, bar: int) -> Iterator[str]:
    yield _line(x + BOX // 2, bar + 11, x + BOX // 2, y)
    yield from _box(x, y, NODE, tall)
    yield from _words(x, y, [f"{node.name}, {node.address}", f"block {node.block}"])
    for at, (name, address) in enumerate(node.pods):
        at_y = y + 52 + at * LINE
        yield f'<rect x="{x + 10}" y="{at_y}" width="{BOX - 20}" height="{LINE - 2}" rx="3" fill="{PAPER}" stroke="{NODE}"/>'
        yield f'<text x="{x + 18}" y="{at_y + 13}" fill="{INK}">{escape(name)}  {address}</text>'


def _ways(first: Seen, y: int) -> Iterator[str]:
    yield f'<text x="{EDGE}" y="{y}" fill="{INK}" font-weight="bold">from {first.name}</text>'
    for at, (block, way) in enumerate(first.ways, 1):
        colour = NATIVE if way.startswith("native") else TUNNEL
        dashes = "" if way.startswith("native") else ' stroke-dasharray="6 4"'
        here = y + at * LINE
        yield f'<path d="M{EDGE} {here - 4}h40" stroke="{colour}" stroke-width="2"{dashes}/>'
        yield f'<text x="{EDGE + 52}" y="{here}" fill="{colour}">{block}  {escape(way)}</text>'


def _box(x: int, y: int, colour: str, tall: int = 84) -> Iterator[str]:
    yield f'<rect x="{x}" y="{y}" width="{BOX}" height="{tall}" rx="8" fill="{PALE}" stroke="{colour}" stroke-width="1.5"/>'


def _words(x: int, y: int, lines: Sequence[str]) -> Iterator[str]:
    for at, line in enumerate(lines):
        weight = ' font-weight="bold"' if at == 0 else ""
        yield f'<text x="{x + 10}" y="{y + 20 + at * LINE}" fill="{INK}"{weight}>{escape(line)}</text>'


def _line(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{INK}" stroke-width="1.5"/>'
