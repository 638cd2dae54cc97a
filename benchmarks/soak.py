"""Does anything grow? Set-up, training, saving, loading, and questions, over and over in one process.

    python benchmarks/soak.py [CYCLES]

Prints memory, threads, open files and files left in the folder of temporary files every tenth cycle, and ends with an error where one of
them grows from the first quarter, when caches and the allocator fill, to the end: memory by more than 5 %, the others at all.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from scelbo import PEAKVI, SCVI, TOTALVI, settings
from scelbo.data.simulate import cite

settings.progress = False
KINDS = {SCVI: {}, PEAKVI: {}, TOTALVI: {"protein_expression_obsm_key": "protein_expression"}}
MEMORY, COUNTS = "memory, MB", ("threads", "open files", "temporary files")


def cycle(number: int, folder: Path) -> None:
    """Each kind of model in turn, of new cells."""
    kind, keys = list(KINDS.items())[number % len(KINDS)]
    adata = cite(500, 200, 5, seed=number)
    kind.setup_anndata(adata, batch_key="batch", **keys)
    model = kind(adata, n_latent=5)
    model.train(max_epochs=3, seed=number)
    model.save(folder / "model", overwrite=True, save_anndata=True)
    again = kind.load(folder / "model")
    assert np.array_equal(again.get_latent_representation(), model.get_latent_representation())
    ask = again.differential_accessibility if kind is PEAKVI else again.differential_expression
    ask(groupby="cell_type", group1="type0", n_samples_overall=500)


def now(temporary: Path) -> dict[str, float]:
    """What this process holds."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    counts = threading.active_count(), len(os.listdir("/proc/self/fd")), sum(1 for _ in temporary.rglob("*"))
    return {MEMORY: resident, **dict(zip(COUNTS, counts, strict=True))}


def main(cycles: int) -> int:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as outer:
        tempfile.tempdir = outer
        folder, rows = Path(outer), []
        for number in range(cycles):
            cycle(number, folder)
            rows.append(now(folder))
            if number % 10 == 9:
                print(f"{number + 1:4d}  " + "  ".join(f"{name} {value:.0f}" for name, value in rows[-1].items()), flush=True)
        tempfile.tempdir = None
    found = pd.DataFrame(rows)
    quarter = max(3, cycles // 4)
    settled, end = found.iloc[quarter // 2 : quarter].max(), found.iloc[-quarter:].median()
    grown = [name for name in found if end[name] > settled[name] * (1.05 if name == MEMORY else 1)]
    print("FAILED: grown are " + ", ".join(grown) if grown else "passed: nothing grows")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
