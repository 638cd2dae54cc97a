"""What does an epoch cost, in CPU seconds and memory, in scelbo and in scvi-tools?

Both train scVI on the same 20,000 x 4,000 simulated cells (8.5 % of the values stored) through their public ``train()``, one thread each,
in processes of their own that take turns. CPU seconds of the process are counted, not those of the clock: other work on the machine
disturbs them little. Ends with an error if scelbo is not at least 3 (NB) and 2.5 (ZINB) times faster. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

CELLS, GENES, STORED = 20_000, 4_000, 0.085
REQUIRED = {"nb": 3.0, "zinb": 2.5}
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


# ------------------------------------------------------------------ in a process of its own
def simulate(path: str) -> None:
    from scelbo.data.simulate import counts

    counts(CELLS, GENES, stored=STORED, seed=1).write_h5ad(path)


def scelbo(adata: Any, likelihood: str, epochs: int) -> list[float]:
    """CPU time at the end of every epoch."""
    from scelbo import SCVI, settings

    ends: list[float] = []
    settings.on_event = lambda event: ends.append(time.process_time()) if event["event"] == "step" else None
    SCVI.setup_anndata(adata, batch_key="batch")
    SCVI(adata, gene_likelihood=likelihood).train(epochs, accelerator="cpu", check_val_every_n_epoch=epochs + 1)
    return ends


def scvi_tools(adata: Any, likelihood: str, epochs: int) -> list[float]:
    """The same of scvi-tools (which, as told here, does not validate either, and shows no bar)."""
    import scvi
    from lightning.pytorch.callbacks import Callback

    ends: list[float] = []

    class Clock(Callback):
        def on_train_epoch_end(self, trainer: Any, plan: Any) -> None:
            ends.append(time.process_time())

    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, gene_likelihood=likelihood)
    model.train(epochs, accelerator="cpu", enable_progress_bar=False, callbacks=[Clock()])
    return ends


SIDES = {"scelbo": scelbo, "scvi-tools": scvi_tools}


def peak_gb() -> float:
    """The most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # bytes on macOS


def measure(side: str, path: str, likelihood: str, epochs: int) -> None:
    import anndata
    import torch

    torch.set_num_threads(1)
    ends = SIDES[side](anndata.read_h5ad(path), likelihood, epochs + 1)
    seconds = [b - a for a, b in pairwise(ends)]  # the first epoch warms up
    print(json.dumps({"seconds": seconds, "peak": peak_gb()}))


# ------------------------------------------------------------------ all of them in turn
def child(*arguments: Any) -> str:
    command = [sys.executable, "-W", "ignore", __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--epochs", type=int, default=3, help="epochs timed in each, after one that warms up")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        simulate(given.child[1]) if given.child[0] == "simulate" else measure(*given.child[:3], epochs=int(given.child[3]))
        return 0

    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: {"seconds": [], "peak": []})
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cells.h5ad")
        child("simulate", path)
        for _ in range(given.rounds):
            for likelihood in REQUIRED:
                for side in SIDES:
                    seen = json.loads(child(side, path, likelihood, given.epochs))
                    found[side, likelihood]["seconds"] += seen["seconds"]
                    found[side, likelihood]["peak"].append(seen["peak"])

    n = given.rounds * given.epochs
    print(f"scVI, {CELLS:,} x {GENES:,} cells, {STORED:.1%} stored, minibatch 128, one thread;")
    print(f"medians of {n} epochs in {given.rounds} processes")
    print(f"(load of the machine meanwhile: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores)\n")
    print("| likelihood | scelbo, CPU s an epoch | scvi-tools | ratio | required | scelbo, peak GB | scvi-tools |")
    print("|---|---|---|---|---|---|---|")
    slow = []
    for likelihood, required in REQUIRED.items():
        ours, theirs = (found[side, likelihood] for side in SIDES)
        ratio = median(theirs["seconds"]) / median(ours["seconds"])
        print(
            f"| {likelihood.upper()} | {median(ours['seconds']):.2f} | {median(theirs['seconds']):.2f} | **{ratio:.1f}x** | {required}x "
            f"| {max(ours['peak']):.2f} | {max(theirs['peak']):.2f} |"
        )
        if ratio < required:
            slow.append(likelihood.upper())
    print(f"\nFAILED: {', '.join(slow)} below what is required" if slow else "\npassed")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
