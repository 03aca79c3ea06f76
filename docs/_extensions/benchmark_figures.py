"""Draw figures from the tables that the benchmarks have stored in the pages: both show the same numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
FIGURES = DOCS / "_figures"
BLUE, ORANGE, GREEN, RED = "#2a6f97", "#e07a1f", "#2a9d8f", "#c1443c"


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw all figures before pages are read."""
    app.connect("builder-inited", lambda _: draw_all())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def draw_all() -> None:
    """Write one PNG per figure into ``docs/_figures``."""
    FIGURES.mkdir(exist_ok=True)
    for name, (page, marker, draw) in _FIGURES.items():
        with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
            figure = draw(*stored_tables(page, marker))
            figure.savefig(FIGURES / f"{name}.png", dpi=130)
            plt.close(figure)


def stored_tables(page: str, marker: str) -> list[pd.DataFrame]:
    """The tables between ``<!-- MARKER: begin -->`` and ``<!-- MARKER: end -->`` of a page, with text in all cells."""
    text = (DOCS / page).read_text(encoding="utf-8")
    block = re.search(rf"<!-- {marker}: begin -->(.*?)<!-- {marker}: end -->", text, re.DOTALL)
    if block is None:
        raise ValueError(f"docs/{page} has no table {marker!r}")
    tables = re.findall(r"(?:^\|.*\n)+", block[1], re.MULTILINE)
    rows = [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()] for table in tables
    ]
    return [pd.DataFrame(body[2:], columns=body[0]) for body in rows]


def _numbers(cells: pd.Series[str], position: int = 0) -> Any:
    """The number at a position in each cell: ``0.99 (0.98 to 1.00)`` has three."""
    return np.array([float(re.findall(r"-?\d+(?:\.\d+)?", cell.replace(",", ""))[position]) for cell in cells])


def _detection(table: pd.DataFrame) -> Any:
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    images = _numbers(table["good images"])
    for column, label, colour in (
        ("detection_rate", "defective parts that fail", BLUE),
        ("false_alarm_rate", "good parts that fail", ORANGE),
    ):
        mean, low, high = (_numbers(table[column], i) for i in range(3))
        ax.errorbar(images, mean, [mean - low, high - mean], fmt="o-", color=colour, capsize=4, label=label)
    ax.set(xlabel="good photographs for training", ylabel="fraction", xscale="log", ylim=(-0.03, 1.05))
    ax.set_xticks(images, [f"{n:.0f}" for n in images])
    ax.minorticks_off()
    ax.legend(title="mean, smallest and largest of five seeds")
    return figure


def _false_alarms(table: pd.DataFrame) -> Any:
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for shift, (model, rows) in zip((0.94, 1.06), table.groupby("model"), strict=True):
        parts = _numbers(rows["good parts"])
        low, high = (_numbers(rows["expected (95 %)"], i) / parts for i in range(2))
        asked, rate = _numbers(rows["requested rate"]), _numbers(rows["rate"])
        colour = BLUE if shift < 1 else ORANGE
        ax.vlines(asked * shift, low, high, color=colour, linewidth=6, alpha=0.3)
        ax.plot(asked * shift, rate, "o", color=colour, label=f"{model}, bar: expected (95 %)")
    ax.plot([0.008, 0.25], [0.008, 0.25], ":", color="grey", label="as asked for")
    ax.set(xscale="log", yscale="log", xlabel="false-alarm rate asked for", ylabel="good parts that failed")
    ax.set_xticks([0.01, 0.05, 0.2], ["1 %", "5 %", "20 %"])
    ax.set_yticks([0.001, 0.01, 0.05, 0.2], ["0.1 %", "1 %", "5 %", "20 %"])
    ax.minorticks_off()
    ax.legend()
    return figure


def _stages(times: pd.DataFrame, _: pd.DataFrame) -> Any:
    times = times[~times["stage"].str.contains("all")]
    stages = [stage.split(",")[0] for stage in times["stage"]]
    runs = [
        f"{batch.replace('_', ' ')}, {models}" for batch, models in zip(times["batch"], times["models"], strict=True)
    ]
    seconds = pd.DataFrame({"run": runs, "stage": stages, "s": _numbers(times["wall s"])}).pivot(
        index="run", columns="stage", values="s"
    )
    figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
    left = np.zeros(len(seconds))
    for stage, colour in (("preprocess", GREEN), ("train", BLUE), ("validate", ORANGE)):
        ax.barh(seconds.index, seconds[stage], left=left, color=colour, label=stage)
        left += seconds[stage].to_numpy()
    ax.set_xlabel("seconds, 80 + 80 photographs, two processors")
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return figure


def _parts_that_differ(table: pd.DataFrame) -> Any:
    figure, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
    found = _numbers(table["found at an asked 1 %"])
    names = [f"{parts}\n{how}" for parts, how in zip(table["parts"], table["registration and light"], strict=True)]
    bars = ax.barh(names, found, color=[BLUE if "local" in name else "lightgrey" for name in names])
    ax.bar_label(bars, [f"{value:.2f}" for value in found], padding=3)
    ax.set(xlim=(0, 1.1), xlabel="defective parts that fail")
    ax.invert_yaxis()
    return figure


def _families(table: pd.DataFrame) -> Any:
    table = table[(table["good images"] == "40") & ~table["model"].str.contains("random")]
    names = [re.sub(r"`|model_options\.", "", model).replace(" ", "\n", 1) for model in table["model"]]
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.8), layout="constrained", sharey=True)
    for ax, column, title in zip(
        axes,
        ("detection rate", "fits s", "s per part"),
        ("defective parts that fail", "seconds for all fits", "seconds per part"),
        strict=True,
    ):
        values = _numbers(table[column])
        ax.bar_label(ax.barh(names, values, color=BLUE), fmt="%.3g", padding=3)
        ax.set(xlim=(0, 1.3 * values.max()), xlabel=title)
    axes[0].invert_yaxis()
    return figure


def _learning(table: pd.DataFrame) -> Any:
    figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
    rounds = _numbers(table["round"])
    for column, label, colour in (
        ("false alarms, never marked", "good parts that fail", ORANGE),
        ("missed, never marked", "defective parts that pass", RED),
    ):
        ax.plot(rounds, _numbers(table[column]), "o-", color=colour, label=label)
    parts = str(table["missed, never marked"].iloc[0]).split()[2]
    ax.set(xlabel="rounds of marking", ylabel=f"of {parts} parts", xticks=rounds, ylim=(0, None))
    ax.legend()
    return figure


_FIGURES: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "detection": ("benchmarks.md", "detection", _detection),
    "false_alarms": ("benchmarks.md", "false alarms", _false_alarms),
    "stages": ("benchmarks.md", "chain", _stages),
    "parts_that_differ": ("benchmarks.md", "parts that differ", _parts_that_differ),
    "learning_rounds": ("benchmarks.md", "learning rounds", _learning),
    "families": ("models.md", "models", _families),
}
