"""Do marker genes find the types of cells, and what does it cost?

Sorted PBMC with six types and textbook markers (``../shared/data/pbmc_facs.h5ad``; skipped where absent): the share of cells with the type
that they were sorted for, by CellAssign here and in scvi-tools, and by simple scores; then without the markers of one type, whose cells
should be "other". And simulated cells, for time and memory. Every row runs in processes of its own, one thread each. Ends with an error if
scelbo finds fewer types than any other, or takes more time or memory than scvi-tools. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from children import child, load, peak_gb, timed
from scipy import sparse

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "pbmc_facs.h5ad"
TRUTH, LEFT_OUT = "cell_type_coarse", "CD34+ progenitor"
CELLS, TYPES, MARKERS = 20_000, 20, 10
"""Of the simulated data: MARKERS genes for each type."""


# ------------------------------------------------------------------ the data
def sorted_cells() -> tuple[AnnData, pd.DataFrame]:
    """Cells, and which gene marks which type."""
    adata = read_h5ad(DATA)
    table = pd.DataFrame(adata.uns.pop("marker_matrix"))
    return adata, table.loc[table.index.isin(adata.var_names)]


def without(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The table of the other types, and of cells that are of none of these."""
    rest = table.drop(columns=kind).assign(other=0)
    return rest[rest.sum(axis=1) > 0]


def simulate(path: str) -> None:
    """Write cells of many types with markers of their own."""
    rng, n_genes = np.random.default_rng(0), TYPES * MARKERS
    kind, size, level = rng.integers(TYPES, size=CELLS), rng.lognormal(0, 0.4, CELLS), rng.normal(-1.5, 0.7, n_genes)
    table = np.repeat(np.eye(TYPES, dtype=int), MARKERS, axis=0)
    mu = size[:, None] * np.exp(level + (rng.normal(2.5, 0.3, n_genes)[:, None] * table).T[kind])
    adata = AnnData(sparse.csr_matrix(rng.poisson(rng.gamma(3, mu / 3)).astype(np.float32)))
    adata.obs[TRUTH] = pd.Categorical.from_codes(kind, [f"type{c}" for c in range(TYPES)])
    adata.var_names = [f"gene{g}" for g in range(n_genes)]
    adata.uns["marker_matrix"] = pd.DataFrame(table, adata.var_names, adata.obs[TRUTH].cat.categories)
    adata.write_h5ad(path)


# ------------------------------------------------------------------ the methods: the types found, CPU seconds, epochs
def scelbo(adata: AnnData, table: pd.DataFrame, seed: int, max_epochs: int | None, plan: str | None = None) -> tuple[Any, float, int]:
    from scelbo import CellAssign

    CellAssign.setup_anndata(adata)
    model = CellAssign(adata, table)
    given = {} if max_epochs is None else {"max_epochs": max_epochs, "early_stopping": False}
    seconds = timed(lambda: model.train(seed=seed, plan=plan, accelerator="cpu", progress=False, **given))
    return model.predict(soft=False).astype(str).to_numpy(), seconds, model.trained_epochs


def scelbo_as_scvi_tools(adata: AnnData, table: pd.DataFrame, seed: int, max_epochs: int | None) -> tuple[Any, float, int]:
    return scelbo(adata, table, seed, max_epochs, "scvi-tools")


def scvi_tools(adata: AnnData, table: pd.DataFrame, seed: int, max_epochs: int | None) -> tuple[Any, float, int]:
    import scvi

    scvi.settings.seed = seed
    size = np.asarray(adata.X.sum(1)).ravel()
    adata = adata[:, table.index].copy()
    adata.obs["size"] = size / size.mean()
    scvi.external.CellAssign.setup_anndata(adata, size_factor_key="size")
    model = scvi.external.CellAssign(adata, table)
    given = {} if max_epochs is None else {"max_epochs": max_epochs, "early_stopping": False}
    seconds = timed(lambda: model.train(accelerator="cpu", enable_progress_bar=False, **given))
    return model.predict().idxmax(axis=1).to_numpy(), seconds, len(model.history["elbo_train"])


def scores(adata: AnnData, table: pd.DataFrame) -> dict[str, Any]:
    """Types by the highest score, from log counts per 10,000."""
    import scanpy as sc

    log = adata.copy()
    sc.pp.normalize_total(log, target_sum=1e4)
    sc.pp.log1p(log)
    x, marks = log[:, table.index].X.toarray(), table.to_numpy()
    for kind in table:
        sc.tl.score_genes(log, list(table.index[table[kind] == 1]), score_name=kind, random_state=0)
    found = {
        "sum of log counts": x @ marks,
        "mean of log counts": x @ (marks / marks.sum(0)),
        "mean of z-scores": (x - x.mean(0)) / x.std(0) @ (marks / marks.sum(0)),
        "scanpy score_genes": log.obs[list(table)].to_numpy(),
    }
    return {name: table.columns.to_numpy()[score.argmax(1)] for name, score in found.items()}


METHODS = {"scelbo, defaults": scelbo, "scelbo, plan 'scvi-tools'": scelbo_as_scvi_tools, "scvi-tools, defaults": scvi_tools}


def measure(method: str, path: str, task: str, seed: int, epochs: int) -> None:
    """One training, as JSON."""
    import torch

    torch.set_num_threads(1)
    adata, table = sorted_cells() if path == "sorted" else (read_h5ad(path), None)
    table = pd.DataFrame(adata.uns.pop("marker_matrix")) if table is None else table
    truth = adata.obs[TRUTH].astype(str).to_numpy()
    if task == "other":
        table, truth = without(table, LEFT_OUT), np.where(truth == LEFT_OUT, "other", truth)
    found, seconds, trained = METHODS[method](adata, table, seed, epochs or None)
    unknown = float((found == truth)[truth == "other"].mean()) if task == "other" else None
    print(json.dumps({"right": float((found == truth).mean()), "unknown": unknown, "cpu": seconds, "epochs": trained, "peak": peak_gb()}))


# ------------------------------------------------------------------ all of them in turn
def table_of(path: str, task: str, methods: list[str], seeds: int, epochs: int) -> dict[str, list[dict[str, Any]]]:
    """Method -> what its trainings gave; printed."""
    seen = {}
    for method in methods:
        runs = seen[method] = [child(__file__, method, path, task, seed, epochs) for seed in range(seeds)]
        right = ", ".join(f"{run['right']:.3f}" for run in runs)
        unknown = "" if task != "other" else f" {mean(run['unknown'] for run in runs):.3f} |"
        cpu, trained = (mean(run[what] for run in runs) for what in ("cpu", "epochs"))
        cost = f"{cpu:.1f} | {trained:.0f} | {max(run['peak'] for run in runs):.2f}"
        print(f"| {method} | **{mean(run['right'] for run in runs):.3f}** ({right}) |{unknown} {cost} |", flush=True)
    return seen


def head(*columns: str) -> None:
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        simulate(given.child[1]) if given.child[0] == "simulate" else measure(*given.child[:3], *map(int, given.child[3:]))
        return 0
    warnings.simplefilter("ignore")
    wrong, cost = [], ["CPU s", "epochs", "peak GB"]
    share = lambda runs, what: mean(run[what] for run in runs)  # noqa: E731

    if DATA.exists():
        adata, table = sorted_cells()
        print(f"\nSorted PBMC, {adata.n_obs:,} cells, {len(table)} markers of {table.shape[1]} types; mean (each of {given.seeds} seeds)\n")
        head("", "cells with their type", *cost)
        seen = table_of("sorted", "all", list(METHODS), given.seeds, 0)
        others = {"scvi-tools": share(seen["scvi-tools, defaults"], "right")}
        for name, found in scores(adata, table).items():
            others[name] = float((found == adata.obs[TRUTH].astype(str).to_numpy()).mean())
            print(f"| {name} | {others[name]:.3f} | | | |")
        ours = share(seen["scelbo, defaults"], "right")
        wrong += [f"{name} finds more types" for name, right in others.items() if right > ours]
        print(f'\nThe same without the markers of {LEFT_OUT}: its cells should be "other"\n')
        head("", "cells with their type", "of them that are other", *cost)
        table_of("sorted", "other", list(METHODS), given.seeds, 0)
    else:
        print(f"skipped: no {DATA.parent.name}/{DATA.name}")

    print(f"\nSimulated, {CELLS:,} cells x {TYPES * MARKERS} genes x {TYPES} types, 5 epochs\n")
    head("", "cells with their type", *cost)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/cells.h5ad"
        child(__file__, "simulate", path)
        seen = table_of(path, "all", ["scelbo, defaults", "scvi-tools, defaults"], 1, 5)
    mine, theirs = seen.values()
    wrong += [f"scvi-tools takes less {what}" for what in ("cpu", "peak") if share(theirs, what) < share(mine, what)]
    print(f"\n({load()})\n" + (f"\nFAILED: {'; '.join(wrong)}" if wrong else "\npassed"))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
