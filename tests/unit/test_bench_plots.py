"""The plots of `./run bench` show what the rows say."""

import xml.etree.ElementTree as ET

from bench._plots import curves, written


def row(name, ours, yardstick=None):
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": None, "unit": "s"}


ROWS = [
    row("routes, 50,000", 2.0, 1.0),
    row("routes, 1,000", 0.1, 0.05),
    row("one thing at 3", 1.0),
    row("no number", 1.0),
]


def test_rows_that_differ_in_size_are_one_curve():
    (curve,) = curves(ROWS).values()

    assert [each["size"] for each in curve] == [1000, 50000]


def test_a_plot_is_svg_with_a_line_for_each(tmp_path):
    (path,) = written(ROWS, tmp_path)

    lines = ET.parse(path).getroot().findall("{http://www.w3.org/2000/svg}polyline")  # noqa: S314  our own file
    assert path.name == "routes-n.svg"
    assert len(lines) == 2


def test_one_point_is_no_curve(tmp_path):
    assert written(ROWS[2:], tmp_path) == []
