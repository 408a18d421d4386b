"""Text in columns, with bold titles on a terminal; a length of time as people say it."""

from collections.abc import Sequence

import click

GAP = "   "


def printed(titles: Sequence[str], rows: Sequence[Sequence[str]], *, styled: bool = False) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    title = _line(titles, widths)
    return "\n".join([click.style(title, bold=True) if styled else title, *lines])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def lasted(seconds: float) -> str:
    """`3d4h`, `4h5m`, `5m6s`, `6s`."""
    total = max(0, int(seconds))
    days, hours, minutes, rest = total // 86400, total // 3600 % 24, total // 60 % 60, total % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
