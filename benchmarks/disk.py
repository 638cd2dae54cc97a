"""What does training from disk cost, in time, memory and quality, beside training in memory, and beside scvi-tools' backed AnnData?

Simulated cells are written sorted, type after type, batch after batch, as atlases often are: an order that is not random enough would show
in how well held-out cells are explained. Each row is a process of its own with one thread. Run with ``make bench``; for many cells
``--cells 1000000 --only "disk, h5ad$" --epochs 1``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import sparse_dataset, write_elem
from children import child, load, peak_gb, timed
from scipy import sparse

GENES, TYPES, BATCHES, PART = 2_000, 10, 2, 5_000
SLOWER, MEMORY_GB = 1.6, 2.0
"""As many times an epoch from h5ad may take what one in memory takes; and the most memory that any number of cells may take."""


def simulate(path: Path, cells: int, compression: str | None = None) -> None:
    """Write cells of one type and one batch after the other, in blocks; of very many, some are drawn again."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.15, 1, GENES) * rng.gamma(4, 0.25, (TYPES, GENES)) * 1.2
    shift = rng.gamma(10, 0.1, (BATCHES, GENES))
    ends = np.arange(TYPES * BATCHES + 1) * cells // (TYPES * BATCHES)
    group = np.repeat(np.arange(TYPES * BATCHES), np.diff(ends))
    with h5py.File(path, "w") as file:
        for which, n in enumerate(np.diff(ends)):
            mean = rng.gamma(5, 0.2, (min(n, PART), 1)) * rates[which // BATCHES] * shift[which % BATCHES]
            some = sparse.csr_matrix(rng.poisson(mean).astype("float32"))
            for start in range(0, n, PART):
                x = some[rng.permutation(some.shape[0])[: n - start]]
                x.indptr = x.indptr.astype("int64")
                if "X" in file:
                    sparse_dataset(file["X"]).append(x)
                else:
                    write_elem(file, "X", x, dataset_kwargs={"compression": compression} if compression else {})
        obs = {"batch": pd.Categorical((group % BATCHES).astype(str)), "kind": pd.Categorical((group // BATCHES).astype(str))}
        write_elem(file, "obs", pd.DataFrame(obs, index=np.arange(cells).astype(str)))
        write_elem(file, "var", pd.DataFrame(index=[f"gene{i}" for i in range(GENES)]))
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def in_memory(path: Path) -> Any:
    import anndata

    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def backed(path: Path) -> Any:
    import anndata

    return anndata.read_h5ad(path, backed="r")


def on_disk(path: Path) -> Any:
    from scelbo.data import read_backed

    return read_backed(path)


JOBS = {
    "memory": ("scelbo", in_memory, "h5ad"),
    "disk, h5ad": ("scelbo", on_disk, "h5ad"),
    "disk, h5ad with gzip": ("scelbo", on_disk, "gzip.h5ad"),
    "disk, zarr": ("scelbo", on_disk, "zarr"),
    "memory, prepared": ("scelbo", in_memory, "prepared.zarr"),
    "disk, prepared": ("scelbo", on_disk, "prepared.zarr"),
    "scvi-tools, memory": ("scvi", in_memory, "h5ad"),
    "scvi-tools, backed h5ad": ("scvi", backed, "h5ad"),
}


def measure(name: str, folder: str, epochs: int) -> None:
    import torch

    torch.set_num_threads(1)
    package, opened, ending = JOBS[name]
    ends: list[float] = []
    adata = opened(Path(folder) / f"cells.{ending}")
    n = adata.n_obs
    if package == "scelbo":
        import scelbo

        scelbo.settings.on_event = lambda event: ends.append(process_time()) if event["event"] == "step" else None
        scelbo.SCVI.setup_anndata(adata, batch_key="batch")
        model = scelbo.SCVI(adata)
        ends[:] = [process_time()]
        model.train(epochs, accelerator="cpu", seed=0, check_val_every_n_epoch=epochs + 1, early_stopping=False)
        held_out = model.get_elbo(indices=model.validation_indices, seed=0)
    else:
        import scvi
        from lightning.pytorch.callbacks import Callback

        class Clock(Callback):
            def on_train_epoch_end(self, trainer: Any, plan: Any) -> None:
                ends.append(process_time())

        scvi.settings.seed = 0
        scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
        model = scvi.model.SCVI(adata)
        ends[:] = [process_time()]
        model.train(epochs, accelerator="cpu", enable_progress_bar=False, callbacks=[Clock()])
        held_out = float("nan")
    print(json.dumps({"cells": n, "cpu": np.median(np.diff(ends)[-max(1, epochs - 1) :]), "peak": peak_gb(), "held_out": held_out}))


def prepare(folder: str) -> None:
    """What putting the cells of the h5ad file into random order costs."""
    from scelbo import data

    here = Path(folder)
    cpu = timed(lambda: data.prepare(here / "cells.h5ad", here / "cells.prepared.zarr", seed=0, progress=False))
    size = sum(part.stat().st_size for part in (here / "cells.prepared.zarr").rglob("*") if part.is_file())
    print(json.dumps({"cpu": cpu, "peak": peak_gb(), "mb": size / 1e6, "h5ad": (here / "cells.h5ad").stat().st_size / 1e6}))


def write_all(folder: str, cells: int, only: str) -> None:
    here = Path(folder)
    wanted = {ending for name, (_, _, ending) in JOBS.items() if re.search(only, name)}
    simulate(here / "cells.h5ad", cells)
    if "gzip.h5ad" in wanted:
        simulate(here / "cells.gzip.h5ad", cells, "gzip")
    if "zarr" in wanted:
        in_memory(here / "cells.h5ad").write_zarr(here / "cells.zarr")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3, help="the first warms up, where there are several")
    parser.add_argument("--only", default="", help="rows whose name matches")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, folder, *rest = given.child
        if what == "simulate":
            write_all(folder, int(rest[0]), " ".join(rest[1:]))
        elif what == "prepare":
            prepare(folder)
        else:
            measure(what, folder, int(rest[0]))
        return 0
    print(f"scVI, {given.cells:,} cells x {GENES:,} genes, sorted; {given.epochs} epochs of minibatches of 128, one thread\n")
    print("| counts | cells a CPU second | CPU s an epoch | beside memory | peak GB | held-out ELBO |\n|---|---|---|---|---|---|")
    seen: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        child(__file__, "simulate", folder, given.cells, given.only)
        made = child(__file__, "prepare", folder) if any(re.search(given.only, name) for name in JOBS if "prepared" in name) else {}
        for name in (name for name in JOBS if re.search(given.only, name)):
            run = seen[name] = child(__file__, name, folder, given.epochs)
            each = run["cpu"] / run["cells"]
            ratio = f"{each / (seen['memory']['cpu'] / seen['memory']['cells']):.2f}x" if "memory" in seen else ""
            print(
                f"| {name} | {0.9 * run['cells'] / run['cpu']:,.0f} | {run['cpu']:.2f} "
                f"| {ratio} | {run['peak']:.2f} | {run['held_out']:.1f} |",
                flush=True,
            )
    if made:
        print(
            f"\nprepare(), once: {made['cpu']:.1f} CPU s, peak {made['peak']:.2f} GB, {made['mb']:.0f} MB ({made['h5ad']:.0f} MB as h5ad)"
        )
    print(f"\n({load()})")
    failed = [name for name, run in seen.items() if name.startswith("disk") and run["peak"] > MEMORY_GB]
    if "memory" in seen and "disk, h5ad" in seen and seen["disk, h5ad"]["cpu"] > SLOWER * seen["memory"]["cpu"]:
        failed.append("disk, h5ad (time)")
    print(f"\nFAILED: {', '.join(failed)}" if failed else "\npassed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
