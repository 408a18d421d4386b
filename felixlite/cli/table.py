"""Text in columns; bold titles on a terminal."""

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
