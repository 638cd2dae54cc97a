"""Case against control inside every group: planted answers are found, nothing is found in nothing, replicates are told apart."""

from pathlib import Path

import anndata
import numpy as np
import pytest

from scelbo import SCVI, errors
from scelbo.data.simulate import counts

KANG = Path(__file__).parents[3] / "shared" / "data" / "kang_ifnb.h5ad"


@pytest.fixture(scope="module")
def model():
    """Four donors, treated or not; treatment multiplies six genes in type0 only."""
    adata = counts(900, 60, n_types=2, stored=0.6, batch_effect=0.0, seed=4)
    rng = np.random.default_rng(0)
    adata.obs["treated"] = np.where(rng.random(900) < 0.5, "yes", "no")
    adata.obs["sample"] = [f"s{i}" for i in rng.integers(4, size=900)]
    x = adata.X.toarray()
    changed = np.ix_(np.flatnonzero((adata.obs["treated"] == "yes") & (adata.obs["cell_type"] == "type0")), range(6))
    x[changed] = rng.poisson(x[changed] * 6 + 3)
    adata.X = x
    SCVI.setup_anndata(adata)
    model = SCVI(adata, n_hidden=32, n_latent=5, gene_likelihood="nb")
    model.train(max_epochs=80, plan_kwargs={"lr": 5e-3}, progress=False)
    return model


def test_planted_changes_are_found_in_their_group_only(model):
    table = model.differential_expression(groupby="cell_type", contrast="treated", replicates="sample", mode="change", n_permutations=2)
    planted = {f"gene{i}" for i in range(6)}
    changed, other = table[table["cell_type"] == "type0"], table[table["cell_type"] == "type1"]
    assert set(changed.index[:6]) == planted and (changed["lfc_mean"].iloc[:6] > 0.5).all()
    assert changed["group1"].unique().tolist() == ["yes"] and changed["group2"].unique().tolist() == ["no"]
    assert (other["proba_de"] < 0.95).all()
    assert (changed["replicates_agree"].iloc[:6] == 1).all() and (changed["n_replicates"] == 4).all()
    np.testing.assert_allclose(changed["lfc_replicates_mean"].iloc[:6], changed["lfc_mean"].iloc[:6], rtol=0.25)
    found = {p["group"]: p for p in table.attrs["permutations"]}
    assert found["type0"]["called"] >= 5 and found["type0"]["called_of_nothing"] <= 1


def test_levels_and_replicates_can_be_named(model):
    ask = lambda **k: model.differential_expression(contrast=("treated", "no", "yes"), mode="change", n_samples_overall=500, **k)  # noqa: E731
    table = ask(groupby="cell_type", group1="type0")
    assert table["comparison"].unique().tolist() == ["no vs yes"] and (table["lfc_mean"].loc[["gene0", "gene1"]] < 0).all()
    assert len(ask()) == 60


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({"contrast": "treatment"}, "Did you mean 'treated'"),
        ({"contrast": "sample"}, "has 4 levels"),
        ({"contrast": ("treated", "yes", "never")}, "level of treated 'never' is unknown"),
        ({"contrast": "treated", "group1": "type7"}, "group of cell_type 'type7' is unknown"),
        ({"contrast": "treated", "replicates": "donors"}, "Did you mean 'donor'"),
        ({"replicates": "donor"}, "belong to a contrast"),
    ],
)
def test_wrong_contrasts_are_answered_clearly(model, ask, says):
    with pytest.raises(errors.ArgumentError, match=says):
        model.differential_expression(groupby="cell_type", mode="change", **ask)


@pytest.mark.skipif(not KANG.exists(), reason="shared/data is absent: no cells stimulated with interferon")
def test_interferon_genes_come_first_in_every_type():
    cells = anndata.read_h5ad(KANG)
    cells = cells[cells.obs["cell_type"] != "unknown"].copy()
    top = np.argsort(-np.asarray(cells.X.mean(0)).ravel())[:1200]
    cells = cells[:, top].copy()
    SCVI.setup_anndata(cells)
    model = SCVI(cells, n_hidden=64)
    model.train(max_epochs=60, progress=False, plan_kwargs={"lr": 3e-3})
    table = model.differential_expression(
        groupby="cell_type", contrast=("stim", "stim", "ctrl"), replicates="donor", mode="change", n_samples_overall=1000
    )
    for name, rows in table.groupby("cell_type"):
        rank = {gene: list(rows.index).index(gene) for gene in ("ISG15", "IFI6", "IFIT1") if gene in rows.index}
        assert len(rank) == 3 and max(rank.values()) < 60, (name, rank)
        assert (rows.loc[list(rank), "lfc_mean"] > 1).all()
        assert (rows.loc[list(rank), "replicates_agree"] > 0.8).all()
