"""The walk-throughs in examples/ run from their first line to their last, each in a process of its own, on a few cells."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scelbo
from scelbo.data.simulate import cite, counts, multiome, spots

ATAC = Path(__file__).resolve().parents[2] / "examples" / "atac.py"
CITESEQ = ATAC.with_name("citeseq.py")


@pytest.fixture
def few(tmp_path):
    """141 cells of three types in two batches, and regions of which each type has its own."""
    rng = np.random.default_rng(3)
    types = np.array(["B", "Mono", "CD4 T"])
    own = np.resize([*types, "none", "none", "none"], 360)
    kind = np.resize(types, 141)
    adata = AnnData((rng.random((141, 360)) < np.where(kind[:, None] == own, 0.75, 0.3)).astype("float32"))
    adata.obs["cell_type"], adata.obs["batch"] = kind, np.resize(np.repeat(["x", "y"], 15), 141)
    adata.obs = adata.obs.astype("category")
    start = 22_380_000 + 1000 * np.arange(360)
    adata.var_names = [f"chr22:{at}-{at + 500}" for at in start]
    adata.write_h5ad(tmp_path / "few.h5ad")
    return tmp_path / "few.h5ad"


def test_the_walk_through_open_chromatin(few, tmp_path):
    folder = tmp_path / "out"
    done = subprocess.run([sys.executable, ATAC, folder, "--data", few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "real cells, from few.h5ad" in done.stdout
    assert {path.stem for path in folder.glob("*.png")} == {"training", "umap", "calibration", "volcano", "marker"}
    assert type(scelbo.load(folder / "model")).__name__ == "PEAKVI"
    regions = pd.read_csv(folder / "regions.csv", index_col=0)
    assert len(regions) == 360 and regions["prob_da"].between(0, 1).all()


def test_the_walk_through_rna_and_proteins(tmp_path):
    cite(120, 40, 6, missing="batch1").write_h5ad(tmp_path / "few.h5ad")
    folder = tmp_path / "out"
    few = [sys.executable, CITESEQ, folder, "--data", tmp_path / "few.h5ad", "--epochs", "2"]
    done = subprocess.run(few, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "real cells, from few.h5ad" in done.stdout
    assert {path.stem for path in folder.glob("*.png")} == {"proteins", "umap"}
    assert type(scelbo.load(folder / "model")).__name__ == "TOTALVI"
    assert set(pd.read_csv(folder / "markers.csv")["modality"]) == {"rna", "protein"}
    assert pd.read_csv(folder / "proteins.csv", index_col=0).shape == (120, 6)


def test_the_walk_through_rna_and_chromatin(tmp_path):
    multiome(150, 40, 60).write_h5ad(tmp_path / "few.h5ad")
    folder = tmp_path / "out"
    few = [sys.executable, CITESEQ.with_name("multiome.py"), folder, "--data", tmp_path / "few.h5ad", "--epochs", "2"]
    done = subprocess.run(few, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "in cells that have chromatin alone: averages told and seen correlate" in done.stdout
    assert (folder / "umap.png").is_file() and type(scelbo.load(folder / "model")).__name__ == "MULTIVI"


def test_the_walk_from_dissociated_to_spatial_cells(tmp_path):
    seq = counts(150, 40, stored=0.5, seed=1)
    seq.write_h5ad(tmp_path / "seq.h5ad")
    counts(100, 40, stored=0.5, seed=1)[:, :20].write_h5ad(tmp_path / "spatial.h5ad")
    folder = tmp_path / "out"
    few = ["--reference", tmp_path / "seq.h5ad", "--spatial", tmp_path / "spatial.h5ad", "--epochs", "2"]
    done = subprocess.run([sys.executable, CITESEQ.with_name("spatial_imputation.py"), folder, *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.stem for path in folder.glob("*.png")} == {"interval", "umap"}
    assert list(pd.read_csv(folder / "scores.csv", index_col=0).index.sort_values()) == ["gene1", "gene13", "gene17", "gene5", "gene9"]
    assert pd.read_csv(folder / "imputed.csv", index_col=0).shape[0] in range(95, 101)


def test_the_walk_from_cells_to_spots(tmp_path):
    folder = tmp_path / "out"
    cells, tissue = spots(60, 150, 120, stored=0.5, seed=1)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    tissue.write_h5ad(tmp_path / "spots.h5ad")
    few = ["--reference", tmp_path / "cells.h5ad", "--spatial", tmp_path / "spots.h5ad", "--epochs", "3"]
    done = subprocess.run([sys.executable, CITESEQ.with_name("spatial.py"), folder, *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.stem for path in folder.glob("*.png")} == {"panels", "pies", "state"}
    shares = pd.read_csv(folder / "proportions.csv", index_col=0)
    assert shares.shape == (60, 4) and np.allclose(shares.sum(axis=1), 1)
    assert np.corrcoef(shares.to_numpy().ravel(), tissue.obsm["proportions"].to_numpy().ravel())[0, 1] > 0.9
    loaded = scelbo.load(folder / "stereoscope").get_proportions(tissue)
    np.testing.assert_allclose(loaded, shares, atol=1e-4)
    assert type(scelbo.load(folder / "destvi")).__name__ == "DestVI"


def test_the_walk_to_how_many_cells_a_spot_has(tmp_path):
    folder = tmp_path / "out"
    cells, tissue = spots(60, 300, 120, stored=0.5, seed=1)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    tissue.write_h5ad(tmp_path / "spots.h5ad")
    few = ["--reference", tmp_path / "cells.h5ad", "--spatial", tmp_path / "spots.h5ad", "--epochs", "150", "--spots", "60"]
    done = subprocess.run([sys.executable, CITESEQ.with_name("abundance.py"), folder, *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(re.search(r"true numbers correlate (0\.\d+)", done.stdout)[1]) > 0.75
    low, mean, high = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in ("q05", "mean", "q95"))
    assert mean.shape == (60, 4) and (low.to_numpy() < mean.to_numpy()).all() and (mean.to_numpy() < high.to_numpy()).all()
    shares = mean.div(mean.sum(axis=1), axis=0)
    assert np.corrcoef(shares.to_numpy().ravel(), tissue.obsm["proportions"].to_numpy().ravel())[0, 1] > 0.85
    assert (folder / "abundance.png").is_file() and (folder / "model" / "model.json").is_file()
