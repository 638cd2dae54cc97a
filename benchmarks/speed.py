"""What do training and questions cost, in CPU seconds and memory, in scelbo and in scvi-tools?

Both do the same on the same simulated cells through their public functions, with one thread, in processes of their own that take turns. CPU
seconds of the process are compared, as medians: other work on the machine disturbs them little. Writes ``results/speed.json`` (all that was
measured, with the settings of both, the losses after as many epochs, versions and the machine's load) and a figure, and ends with an
error where scelbo is slower than ``jobs.JOBS`` asks for or takes more memory. Run with ``make bench``, or in parts::

    python benchmarks/speed.py --rows scVI LDA --rounds 1
    python benchmarks/speed.py --rows "scVI, NB" --grow cells
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jobs
from children import SIZES, Size, child, load, simulate
from jobs import JOBS, PACKAGES, Job
from output import save

RESULTS = Path(__file__).parent / "results"
MEMORY = 1.02
"""Times the other's peak that still counts as no more."""
GROW = {
    "cells": [Size(n, 2_000, 0.085) for n in (5_000, 10_000, 20_000, 50_000, 100_000)],
    "genes": [Size(5_000, n, 0.085) for n in (1_000, 2_000, 5_000, 10_000, 20_000)],
    "density": [Size(5_000, 4_000, share) for share in (0.02, 0.05, 0.1, 0.2)],
}


class Row(NamedTuple):
    """One question of one job, as both sides answered it."""

    name: str
    asked: str
    size: Size
    required: float | None
    memory: float
    sides: dict[str, dict[str, Any]]
    """Side -> ``cpu, wall`` (lists over all rounds), ``peak`` (GB), and of epochs ``settings, after, loss``."""

    def of(self, side: str, what: str) -> float:
        values = self.sides[side][what]
        return median(values) if isinstance(values, list) else values

    @property
    def ratio(self) -> float | None:
        """Times that scelbo takes less CPU."""
        return None if len(self.sides) == 1 else self.of("scvi-tools", "cpu") / self.of("scelbo", "cpu")

    @property
    def wrong(self) -> list[str]:
        """What falls short of what is required."""
        peaks = [self.of(side, "peak") for side in self.sides]
        if self.ratio is None or self.required is None:
            return [f"{self.name}, {self.asked}: {peaks[0]:.2f} GB"] * (peaks[0] > jobs.MOST_GB)
        most = self.memory if self.asked == jobs.DA else MEMORY
        slow = [f"{self.name}, {self.asked}: {self.ratio:.1f}x, {self.required:g}x is required"] * (self.ratio < self.required)
        return slow + [f"{self.name}, {self.asked}: {peaks[0]:.2f} GB beside {peaks[1]:.2f}"] * (peaks[0] > most * peaks[1])

    def shown(self) -> str:
        """In Markdown."""
        times = " | ".join(f"{self.of(side, 'cpu'):.3g}" for side in self.sides)
        peaks = " | ".join(f"{self.of(side, 'peak'):.2f}" for side in self.sides)
        loss = " / ".join(", ".join(f"{v:.5g}" for v in found.get("loss", {}).values()) for found in self.sides.values())
        alone = " |" * (len(self.sides) == 1)
        ratio = "" if self.ratio is None else f"**{self.ratio:.1f}x**"
        return f"| {self.name} | {self.asked} | {times} |{alone} {ratio} | {self.required or ''} | {peaks} |{alone} {loss.strip(' /')} |"


HEAD = """| model | question | scelbo, CPU s | scvi-tools | ratio | required | scelbo, peak GB | scvi-tools | losses |
|---|---|---|---|---|---|---|---|---|"""


def measured(name: str, size: Size, folder: str, given: Any) -> list[Row]:
    """The rows of a job: both sides in turn, as often as there are rounds."""
    job: Job = JOBS[name]
    child(__file__, "simulate", *size, folder)
    asked = [what for what in job.required if not given.questions or what in given.questions]
    found: dict[str, dict[str, Any]] = {what: {} for what in asked}
    for _ in range(given.rounds):
        for side in job.sides:
            for what, spent in child(__file__, side, name, *size, folder, given.epochs, given.share, json.dumps(asked)).items():
                if what in found:
                    seen = found[what].setdefault(side, spent | {"cpu": [], "wall": [], "peak": 0.0})
                    seen["cpu"] += spent["cpu"]
                    seen["wall"] += spent["wall"]
                    seen["peak"] = max(seen["peak"], spent["peak"])
    return [Row(name, what, size, job.required[what], job.memory, sides) for what, sides in found.items() if sides]


def run_child(what: str, *rest: str) -> dict[str, Any]:
    """In a process of its own."""
    numbers = slice(0, 3) if what == "simulate" else slice(1, 4)
    cells, features, stored = rest[numbers]
    size = Size(int(cells), int(features), float(stored))
    if what == "simulate":
        simulate(size, rest[3])
        return {}
    name, folder, epochs, share, asked = rest[0], rest[4], int(rest[5]), float(rest[6]), json.loads(rest[7])
    return jobs.start(what, size, folder) if name == "start" else jobs.measure(what, name, size, folder, epochs, share, asked)


# ------------------------------------------------------------------ what is kept
def kept(row: Row, given: Any) -> dict[str, Any]:
    """A row as it is written: what was measured, of what, when, and beside what else."""
    job, measured_in = JOBS[row.name], {"epochs": given.epochs, "rounds": given.rounds, "share of the cells that train": given.share}
    about = {"model": row.name, "question": row.asked, "data": row.size._asdict(), "ratio": row.ratio, "required": row.required}
    when = {"when": datetime.now(UTC).isoformat(timespec="minutes"), "load": [round(v, 1) for v in os.getloadavg()]}
    return {**about, "arguments": dict(job.arguments), "setup": dict(job.keys), **measured_in, **when, **row.sides}


def row_of(found: dict[str, Any]) -> Row:
    """The row that was written so."""
    sides = {side: found[side] for side in PACKAGES if side in found}
    name = found["model"]
    return Row(name, found["question"], Size(**found["data"]), found["required"], JOBS[name].memory, sides)


def written(rows: list[dict[str, Any]], stem: str) -> None:
    """These rows among those of earlier runs, and the figure of all."""
    path = RESULTS / f"{stem}.json"
    which = lambda row: (row["model"], row["question"], *row["data"].values())  # noqa: E731
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    found = {which(row): row for row in [*earlier, *rows] if row["model"] in JOBS}
    order = list(JOBS)
    merged = sorted(found.values(), key=lambda row: order.index(row["model"]))
    names = ("torch", "numpy", "scipy", "numba", "anndata", "lightning", "scvi-tools")
    about = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}; one thread a process",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({**about, "rows": merged}, indent=1) + "\n")
    from matplotlib.figure import Figure

    both = [row for row in map(row_of, merged) if row.ratio is not None]
    if both:
        figure = Figure(layout="constrained")
        (curves if len({row.size for row in both if row.name == both[0].name}) > 1 else bars)(figure, both)
        save(figure, RESULTS / stem)


def bars(figure: Any, rows: list[Row]) -> None:
    """How many times less CPU each row takes, and how many it has to."""
    figure.set_size_inches(7, 1 + 0.25 * len(rows))
    axes = figure.subplots()
    at = range(len(rows))[::-1]
    axes.barh(at, [row.ratio for row in rows], color=["#0072b2" if row.ratio >= (row.required or 0) else "#d55e00" for row in rows])
    axes.scatter([row.required for row in rows], at, marker="|", s=120, color="black", zorder=2, label="required")
    for y, row in zip(at, rows, strict=True):
        axes.annotate(f"{row.ratio:.1f}", (row.ratio, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(at, [f"{row.name}: {row.asked}" for row in rows], fontsize=8)
    axes.set(xscale="log", xlabel="times less CPU than scvi-tools")
    axes.axvline(1, color="#888888", linewidth=1)
    axes.legend(loc="lower right")


def curves(figure: Any, rows: list[Row]) -> None:
    """CPU seconds by size, a panel for each question."""
    panels = list(dict.fromkeys((row.name, row.asked) for row in rows))
    figure.set_size_inches(3.4 * len(panels), 3.2)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        here = [row for row in rows if (row.name, row.asked) == panel]
        grown = next(i for i, values in enumerate(zip(*(row.size for row in here), strict=True)) if len(set(values)) > 1)
        for side, colour in zip(PACKAGES, ("#0072b2", "#d55e00"), strict=True):
            axes.plot([row.size[grown] for row in here], [row.of(side, "cpu") for row in here], "o-", color=colour, label=side)
        axes.set(xscale="log", yscale="log", xlabel=Size._fields[grown], ylabel="CPU s", title=": ".join(panel))
    axes.legend()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[], help="jobs whose name holds one of these (default: all that are not long)")
    parser.add_argument("--questions", nargs="*", default=[], help=f"of {jobs.EPOCH!r}, {jobs.LATENT!r}, {jobs.NORMALISED!r}, ...")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each side")
    parser.add_argument("--epochs", type=int, default=2, help="epochs timed in each, after one that warms up")
    parser.add_argument("--share", type=float, default=0.9, help="of the cells that train: an epoch costs as much less as there are fewer")
    parser.add_argument("--grow", choices=list(GROW), help="along the number of cells, that of genes, or the share of stored values")
    parser.add_argument("--data", help="a folder to keep the simulated cells in")
    parser.add_argument("--out", help="stem of the results' files, to which rows are added (default: speed, or speed_ and what grows)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_child(*given.child)))
        return 0
    chosen = [n for n, job in JOBS.items() if any(part in n for part in given.rows) or (not given.rows and not job.long)]
    chosen = ["scVI, NB"] if given.grow and not given.rows else chosen
    print(f"Epochs of {given.share:.0%} of the cells, medians of {given.rounds * given.epochs} in {given.rounds} processes\n\n{HEAD}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        for name in chosen:
            for size in GROW[given.grow] if given.grow else [SIZES[JOBS[name].size]]:
                for row in measured(name, size, given.data or made, given):
                    shown = row._replace(name=f"{name}, {size}") if given.grow else row
                    print(shown.shown(), flush=True)
                    rows.append(row)
                    written([kept(row, given)], given.out or (f"speed_{given.grow}" if given.grow else "speed"))
    wrong = [] if given.grow else [text for row in rows for text in row.wrong]
    print(f"\n({load()})", *wrong, "FAILED" if wrong else "passed", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
