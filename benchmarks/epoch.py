"""What does an epoch cost, in CPU seconds and memory, in scelbo and in scvi-tools?

Both train the same model on the same simulated cells through their public ``train()``, one thread each, in processes of their own that take
turns. CPU seconds of the process are counted, not those of the clock: other work on the machine disturbs them little. Ends with an error
if scelbo is not as many times faster as ``JOBS`` says. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

from children import SIZES, child, load, peak_gb, read, simulate


class Job(NamedTuple):
    """A model, the size of its data, and how many times faster it has to be."""

    model: str
    arguments: dict[str, Any]
    size: str
    required: float
    keys: Mapping[str, Any] = MappingProxyType({"batch_key": "batch"})


LABELS = {"batch_key": "batch", "labels_key": "cell_type", "unlabeled_category": "type3"}
JOBS = {
    "scVI, NB": Job("SCVI", {"gene_likelihood": "nb"}, "genes", 3.0),
    "scVI, ZINB": Job("SCVI", {"gene_likelihood": "zinb"}, "genes", 2.5),
    "scANVI, ZINB": Job("SCANVI", {}, "genes", 2.5, LABELS),
    "LDVAE": Job("LinearSCVI", {}, "genes", 3.0),
    "AutoZI": Job("AUTOZI", {}, "genes", 3.0),
    "PeakVI, 33,000 regions": Job("PEAKVI", {}, "33k", 2.0),
    "PeakVI, 115,000 regions": Job("PEAKVI", {}, "115k", 2.0),
    "totalVI, 14 proteins": Job("TOTALVI", {}, "genes", 2.0, {"batch_key": "batch", "protein_expression_obsm_key": "protein_expression"}),
    "MultiVI, 3,000 genes and 30,000 regions": Job("MULTIVI", {}, "33k", 2.0),
    "Stereoscope, cells": Job("RNAStereoscope", {}, "genes", 2.0, {"labels_key": "cell_type"}),
    "Stereoscope, spots": Job("SpatialStereoscope", {}, "spots", 2.0, {}),
    "CondSCVI": Job("CondSCVI", {}, "genes", 2.0, {"labels_key": "cell_type"}),
    "DestVI": Job("DestVI", {}, "spots", 2.0, {}),
    "LDA, 20 topics": Job("AmortizedLDA", {}, "genes", 2.0, {}),
}


REFERENCES = {"SpatialStereoscope": "RNAStereoscope", "DestVI": "CondSCVI"}


# ------------------------------------------------------------------ in a process of its own
def set_up(model: Any, job: Job, adata: Any) -> Any:
    model.setup_anndata(adata, **job.keys)
    return model(adata, **job.arguments)


def of_cells(job: Job, adata: Any, package: Any) -> Any:
    """A model of spots, made of one of cells that was trained for an epoch; None of others."""
    if job.model not in REFERENCES:
        return None
    parts = [getattr(package, part, package) for part in ("model", "external")]
    known, model = (next(getattr(p, name) for p in (*parts, package) if hasattr(p, name)) for name in (REFERENCES[job.model], job.model))
    cells = adata[:500].copy()
    known.setup_anndata(cells, labels_key="cell_type")
    more = {"prior": "mog"} if package.__name__ == "scvi" and job.model == "DestVI" else {}  # of its two priors one runs
    reference = known(cells, **more)
    reference.train(1, accelerator="cpu")
    model.setup_anndata(adata, **job.keys)
    return model.from_rna_model(adata, reference)


def scelbo(job: Job, adata: Any, epochs: int) -> list[float]:
    """CPU time at the end of every epoch."""
    import scelbo

    ends: list[float] = []
    scelbo.settings.on_event = lambda event: ends.append(time.process_time()) if event["event"] == "step" else None
    model = of_cells(job, adata, scelbo) or set_up(getattr(scelbo, job.model), job, adata)
    ends.clear()
    model.train(
        epochs, accelerator="cpu", early_stopping=False, check_val_every_n_epoch=epochs + 1, plan_kwargs={"reduce_lr_on_plateau": False}
    )
    return ends


def scvi_tools(job: Job, adata: Any, epochs: int) -> list[float]:
    """The same of scvi-tools (which, as told here, does not validate either, and shows no bar)."""
    import scvi
    from lightning.pytorch.callbacks import Callback

    ends: list[float] = []

    class Clock(Callback):
        def on_train_epoch_end(self, trainer: Any, plan: Any) -> None:
            ends.append(time.process_time())

    if job.model == "MULTIVI":
        from peer.multivi import several

        model = scvi.model.MULTIVI(several(adata, dict(job.keys)), **job.arguments)
    else:
        model = of_cells(job, adata, scvi) or set_up(getattr(scvi.model, job.model, None) or getattr(scvi.external, job.model), job, adata)
    validates = job.model in ("PEAKVI", "MULTIVI", "TOTALVI")
    more: dict[str, Any] = {"early_stopping": False, "check_val_every_n_epoch": epochs + 1} if validates else {}
    more |= {"reduce_lr_on_plateau": False} if job.model == "TOTALVI" else {}
    model.train(epochs, accelerator="cpu", enable_progress_bar=False, callbacks=[Clock()], **more)
    return ends


SIDES = {"scelbo": scelbo, "scvi-tools": scvi_tools}


def measure(side: str, name: str, folder: str, epochs: int) -> None:
    job = JOBS[name]
    adata = read(job.size, folder)
    if adata.n_vars > 3000:
        adata.var["feature_types"] = ["Gene Expression"] * 3000 + ["Peaks"] * (adata.n_vars - 3000)  # for models of both
    ends = SIDES[side](job, adata, epochs + 1)
    seconds = [b - a for a, b in pairwise(ends)]  # the first epoch warms up
    print(json.dumps({"seconds": seconds, "peak": peak_gb()}))


# ------------------------------------------------------------------ all of them in turn
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--epochs", type=int, default=3, help="epochs timed in each, after one that warms up")
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        simulate(*given.child[1:]) if given.child[0] == "simulate" else measure(*given.child[:3], epochs=int(given.child[3]))
        return 0

    print(f"Minibatch 128, one thread, medians of {given.rounds * given.epochs} epochs in {given.rounds} processes\n")
    print("| model | cells | scelbo, CPU s an epoch | scvi-tools | ratio | required | scelbo, peak GB | scvi-tools |")
    print("|---|---|---|---|---|---|---|---|")
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        for name, job in JOBS.items():
            if given.only not in name:
                continue
            child(__file__, "simulate", job.size, folder)
            seen: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for _ in range(given.rounds):
                for side in SIDES:
                    seen[side].append(child(__file__, side, name, folder, given.epochs))
            ours, theirs = (median(s for run in seen[side] for s in run["seconds"]) for side in SIDES)
            peaks = [max(run["peak"] for run in seen[side]) for side in SIDES]
            size = SIZES[job.size]
            print(
                f"| {name} | {size.cells:,} x {size.features:,}, {size.stored:.1%} stored | {ours:.2f} | {theirs:.2f} "
                f"| **{theirs / ours:.1f}x** | {job.required}x | {peaks[0]:.2f} | {peaks[1]:.2f} |",
                flush=True,
            )
            if theirs / ours < job.required:
                slow.append(name)
    print(f"\n({load()})")
    print(f"\nFAILED: {', '.join(slow)} below what is required" if slow else "\npassed")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
