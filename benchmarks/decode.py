"""How much memory and time does it take to write the normalised expression of 50,000 x 20,000 cells to disk? Run with ``make bench``."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from anndata import read_h5ad
from epoch import peak_gb

from scelbo import SCVI
from scelbo.data.simulate import counts

CELLS, GENES, STORED, MOST = 50_000, 20_000, 0.03, 1.5


def simulate(path: Path) -> None:
    counts(CELLS, GENES, stored=STORED, seed=1).write_h5ad(path)


def main() -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as another:  # whose memory is not ours
            another.submit(simulate, path).result()
        adata = read_h5ad(path)
    SCVI.setup_anndata(adata, batch_key="batch")
    model = SCVI(adata)
    model.is_trained = True  # weights at their start decode as fast
    before, start = peak_gb(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expression.h5ad"
        model.get_normalized_expression(out=path)
        size = path.stat().st_size / 2**30
    after, seconds = peak_gb(), time.process_time() - start
    print(f"{CELLS:,} x {GENES:,}: {size:.1f} GB written in {seconds:.0f} CPU s; peak memory {after:.2f} GB ({before:.2f} GB before)")
    print("passed" if after <= MOST else f"FAILED: more than {MOST} GB")
    return int(after > MOST)


if __name__ == "__main__":
    sys.exit(main())
