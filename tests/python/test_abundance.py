"""Differential abundance: calibrated where nothing differs, finds what was planted, and says what it cannot answer."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from known import known

from scelbo import errors
from scelbo.analysis import aggregated_posterior, differential_abundance


def cells_of(fold, seed=0, n_samples=4, per_sample=200, paired=False):
    """Six types; in case samples the third is ``fold`` times as common. Proportions vary from sample to sample (or pair to pair)."""
    rng = np.random.default_rng(seed)
    centres, share = rng.normal(0, 8, (6, 5)), np.array([0.3, 0.2, 0.2, 0.15, 0.1, 0.05])
    own = [rng.dirichlet(60 * share) for _ in range(2 * n_samples)]
    x, obs = [], []
    for s in range(2 * n_samples):
        p = own[s % n_samples] if paired else own[s]
        p = p * np.where((np.arange(6) == 2) & (s < n_samples), fold, 1)
        kind = rng.choice(6, per_sample, p=p / p.sum())
        x.append(centres[kind] + rng.normal(0, 2, (per_sample, 5)))
        obs.append(
            pd.DataFrame({"sample": f"s{s}", "donor": f"d{s % n_samples}", "arm": "case" if s < n_samples else "control", "kind": kind})
        )
    obs = pd.concat(obs, ignore_index=True)
    return AnnData(np.concatenate(x).astype(np.float32), obs=obs.set_index(obs.index.astype(str)))


def test_what_was_planted_is_found_and_nothing_else_is():
    adata = cells_of(3.0)
    table = differential_abundance(known(adata), sample_key="sample", contrast=("arm", "case", "control"), fdr_target=0.1)
    assert list(table) == ["log_fold_change", "t", "p_value", "fdr", "is_da_fdr_0.1"] and list(table.index) == list(adata.obs_names)
    grown = (adata.obs["kind"] == 2).to_numpy()
    assert table["is_da_fdr_0.1"][grown].mean() > 0.8 and (table["log_fold_change"][table["is_da_fdr_0.1"] & grown] > 0).all()
    truth = np.log2(3 / (1 + 0.2 * 2))  # of shares, which sum to one
    assert table["log_fold_change"][grown].mean() == pytest.approx(truth, abs=0.5)
    assert (table["log_fold_change"][table["is_da_fdr_0.1"] & ~grown] < 0).all()  # the others' share shrinks


def test_where_nothing_differs_nothing_is_found():
    p = [
        differential_abundance(known(cells_of(1.0, seed, per_sample=80)), sample_key="sample", contrast=("arm", "case", "control"))
        for seed in range(8)
    ]
    assert sum(table["is_da_fdr_0.05"].any() for table in p) <= 1
    assert np.mean([(table["p_value"] < 0.1).mean() for table in p]) == pytest.approx(0.1, abs=0.06)


def test_pairs_take_out_what_donors_have_of_their_own():
    adata = cells_of(1.6, seed=3, n_samples=6, paired=True)
    ask = lambda **k: differential_abundance(known(adata), sample_key="sample", contrast=("arm", "case", "control"), **k)  # noqa: E731
    grown = (adata.obs["kind"] == 2).to_numpy()
    assert ask(pair_key="donor")["t"][grown].median() > 1.2 * ask()["t"][grown].median()


def test_densities_are_those_of_each_sample_without_the_cell_itself():
    adata = cells_of(1.0, per_sample=30)
    model = known(adata)
    table = differential_abundance(model, sample_key="sample", dof=None)
    assert table.shape == (240, 8)
    z = model.read()["x"].dense() / 2
    others = (adata.obs["sample"] == "s0").to_numpy().nonzero()[0]
    for cell, without in ((0, others[others != 0]), (100, others)):  # of s0, and of another sample
        expected = aggregated_posterior(model, indices=without).log_prob(z[cell])
        assert table["s0"].iloc[cell] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({"sample_key": "smple"}, "Did you mean 'sample'"),
        ({"sample_key": "sample", "contrast": "ram"}, "Did you mean 'arm'"),
        ({"sample_key": "donor", "contrast": "arm"}, "changes within 4 samples"),
        ({"sample_key": "sample", "contrast": "arm", "pair_key": "sample"}, "a test needs two"),
    ],
)
def test_wrong_questions_are_answered_clearly(ask, says):
    with pytest.raises(errors.ArgumentError, match=says):
        differential_abundance(known(cells_of(1.0, per_sample=10)), **ask)
