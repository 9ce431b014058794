# SPDX-License-Identifier: GPL-2.0-or-later
"""A story as text, and as one HTML file that needs nothing else."""

from collections.abc import Iterator
from html import escape

from nicmodel.explain.moment import Moment, Story

COLOURS = {
    "program": "#000000",
    "kernel": "#8c564b",
    "send": "#1f77b4",
    "resend": "#9467bd",
    "resync": "#ff7f0e",
    "arrive": "#2ca02c",
    "complete": "#17becf",
    "whole": "#17becf",
    "control": "#7f7f7f",
    "lost": "#d62728",
    "wrong": "#d62728",
}
_WIDTH, _LANE, _LEFT = 1000, 44, 130
_STYLE = """
body { font: 14px sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { padding: 2px 10px; text-align: left; vertical-align: top; }
td:first-child { text-align: right; font-family: monospace; }
td:nth-child(2) { white-space: nowrap; }
tr:target { background: #ffc; }
circle { cursor: pointer; }
"""


def text(story: Story) -> Iterator[str]:
    """Lines: what it is about, then ms since its beginning, place, what happened; notes."""
    yield story.title
    width = max(len(place) for place in story.places)
    for moment in story.moments:
        yield f"{_ms(story, moment):>12}  {moment.place:<{width}}  {moment.text}"
    yield from story.notes


def html(story: Story) -> str:
    """A page with a line for each place and a point for each moment, above a table of them."""
    rows = "".join(
        f'<tr id="m{at}"><td>{_ms(story, one)}</td><td>{escape(one.place)}</td>'
        f'<td style="color:{COLOURS[one.kind]}">{one.kind}</td><td>{escape(one.text)}</td></tr>\n'
        for at, one in enumerate(story.moments)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(story.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(story.title)}</h1>\n{_drawing(story)}\n"
        f"{''.join(f'<p>{escape(note)}</p>' for note in story.notes)}"
        "<p>A point is a moment; point at it to read it, click it to find it in the table.</p>\n"
        f"<table>\n<tr><th>ms</th><th>where</th><th></th><th>what</th></tr>\n{rows}</table>\n"
        "</body>\n</html>\n"
    )


def _drawing(story: Story) -> str:
    height = _LANE * len(story.places) + 30
    lines = [
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#ccc"/>'
        f'<text x="0" y="{y + 4}">{escape(place)}</text>'
        for place, y in _lanes(story)
    ]
    lanes = dict(_lanes(story))
    # moments have equal room, for some are microseconds apart and others seconds
    step = (_WIDTH - _LEFT) / max(1, len(story.moments))
    points = [
        f'<a href="#m{at}"><circle cx="{_LEFT + step * (at + 0.5):.1f}" cy="{lanes[one.place]}" '
        f'r="6" fill="{COLOURS[one.kind]}"><title>{_ms(story, one)} ms: {escape(one.text)}</title>'
        "</circle></a>"
        for at, one in enumerate(story.moments)
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH + 10} {height}" width="100%" font-size="13" role="img">'
        f"{''.join(lines + points)}</svg>"
    )


def _lanes(story: Story) -> Iterator[tuple[str, int]]:
    for at, place in enumerate(story.places):
        yield place, 24 + at * _LANE


def _ms(story: Story, moment: Moment) -> str:
    return f"{(moment.time - story.moments[0].time) / 1e6:.3f}"
