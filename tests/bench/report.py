# SPDX-License-Identifier: GPL-2.0-or-later
"""What a benchmark yields: ``results.json`` and a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nicmodel.testbed.paths import BUILD

FOLDER = BUILD / "bench"
RESULTS = FOLDER / "results.json"

ROUNDS = 5
"""Fewest rounds of which a median is taken."""


@dataclass(frozen=True)
class Result:
    """One line of ``results.json``.

    ``value`` is the median of ours, ``peer_value`` that of ``peer``, and ``ratio`` what the first
    is of the second; ``rounds`` has what each round found of both. A figure of the model alone has
    its target as peer, and ``limit``: what ``least`` would reach with the same bytes; ``share`` is
    what ``value`` is of that.
    """

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    ratio: float
    rounds: tuple[tuple[float, float], ...]
    limit: float | None = None
    share: float | None = None
    least: str = ""


def report(results: Sequence[Result], path: Path = RESULTS) -> None:
    """Print the table and write ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    print(f"\n{'':34}{'ours':>14}{'peer':>14}{'ratio':>8}")
    for r in results:
        limit = "" if r.share is None else f", {r.share:.0%} of {r.least}"
        print(
            f"{r.name:34}{r.value:14,.1f}{r.peer_value:14,.1f}{r.ratio:8.2f}"
            f"  {r.unit}, peer {r.peer}{limit}"
        )
    print(f"\nwritten to {path}")


@dataclass(frozen=True)
class Curve:
    """Cost against work: points of ``x`` (how much there is) and ``y``."""

    title: str
    x: str
    y: str
    points: Sequence[tuple[float, float]]


def plot(curves: Sequence[Curve], name: str, folder: Path = FOLDER) -> None:
    """Draw the curves side by side into ``folder/name.png``, and keep the numbers as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(6 * len(curves), 4), layout="constrained")
    for axes, curve in zip(np.atleast_1d(figure.subplots(1, len(curves))), curves, strict=True):
        axes.plot(*zip(*curve.points, strict=True), marker="o")
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
        axes.grid(True)
        print(f"  {curve.title}: {', '.join(f'{x:g}: {y:.1f}' for x, y in curve.points)} {curve.y}")
    figure.savefig(folder / f"{name}.png")
    numbers = json.dumps([asdict(curve) for curve in curves], indent=1)
    (folder / f"{name}.json").write_text(numbers + "\n")
    print(f"  curves: {folder / name}.png")


@dataclass(frozen=True)
class Panel:
    """Lines by name, of points of x and y; ``log``: y too, x is."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log: bool = False


def plot_lines(
    panels: Sequence[Panel], name: str, *, note: str = "", folder: Path = FOLDER
) -> None:
    """Draw the panels side by side into ``folder/name.png``, and keep the numbers as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(4 * len(panels), 4.4), layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for line, points in panel.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=line)
        axes.set_xscale("log", base=2)
        if panel.log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.suptitle(note)
    figure.savefig(folder / f"{name}.png")
    numbers = json.dumps({"note": note, "panels": [asdict(panel) for panel in panels]}, indent=1)
    (folder / f"{name}.json").write_text(numbers + "\n")
    print(f"  plot: {folder / name}.png")


def plot_shares(
    rows: dict[str, dict[str, float]], title: str, name: str, folder: Path = FOLDER
) -> None:
    """Draw a bar for each row, cut into its shares of 100 %, and keep the numbers as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7, 1 + 0.6 * len(rows)), layout="constrained")
    axes = figure.subplots()
    left = dict.fromkeys(rows, 0.0)
    for part in next(iter(rows.values())):
        widths = [100 * spent[part] / sum(spent.values()) for spent in rows.values()]
        bars = axes.barh(list(rows), widths, left=list(left.values()), label=part)
        axes.bar_label(bars, [f"{width:.0f} %" for width in widths], label_type="center")
        for row, width in zip(rows, widths, strict=True):
            left[row] += width
    axes.set(title=title, xlim=(0, 100))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(rows))
    figure.savefig(folder / f"{name}.png")
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
