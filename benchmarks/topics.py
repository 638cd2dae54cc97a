"""Do topics of sorted blood cells explain cells that no model has seen, and do they find the types? And what does asking for them cost?

AmortizedLDA of scelbo and of scvi-tools, variational Bayes (scikit-learn's LatentDirichletAllocation) and the average cell see the same
genes, chosen on the training cells (``../shared/data/pbmc_facs.h5ad``; skipped where absent); a fifth of the cells is held out, for each
of several seeds. Every method is scored by document completion: each count of a held-out cell goes to one of two halves; topic
proportions are asked of the first, and the perplexity of the second is that of the mixture. Beside it stands each method's own bound on
held-out cells, given its topics. Then 20,000 simulated cells x 4,000 genes: the time that asking for proportions takes, and their
distance from the exact posterior means. Ends with an error where scelbo's defaults fall short of scikit-learn's perplexity or types, or
are less than 20 times as fast to ask as scvi-tools. Run with ``make bench``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData, read_h5ad
from children import SIZES, load, read, simulate, timed
from output import quiet
from peer.amortized_lda import pairs
from scipy import sparse
from scipy.special import digamma, gammaln, logsumexp
from sklearn.cluster import KMeans
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.metrics import normalized_mutual_info_score

import scelbo
from scelbo import AmortizedLDA
from scelbo.scvi_tools import blocks

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "pbmc_facs.h5ad"
TYPE, HELD_OUT, GENES = "cell_type", 0.2, 3000
OURS, PEER, VB, AVERAGE = "scelbo, defaults", "scvi-tools", "scikit-learn", "average cell"
FASTER = 20.0
"""How many times faster than scvi-tools proportions have to come."""
EQUAL = 0.001
"""Means that differ by less are equal: those of a method differ by a hundredth between seeds."""


class Fit(NamedTuple):
    """A fitted method: what is asked of it, and the perplexity that its own bound gives held-out cells."""

    theta: Callable[[AnnData], np.ndarray]  # cells x topics
    phi: np.ndarray  # topics x genes
    bound: Callable[[AnnData], float]


# ------------------------------------------------------------------ data
def cells(seed: int) -> tuple[AnnData, AnnData]:
    """Training and held-out cells with the genes that vary most among the former."""
    adata = read_h5ad(DATA)
    held_out = np.random.default_rng(seed).random(adata.n_obs) < HELD_OUT
    train = adata[~held_out].copy()
    sc.pp.highly_variable_genes(train, n_top_genes=GENES, flavor="seurat_v3")
    genes = train.var["highly_variable"].to_numpy()
    return train[:, genes].copy(), adata[held_out][:, genes].copy()


def halves(adata: AnnData, seed: int) -> tuple[AnnData, sparse.coo_matrix]:
    """Every count of every cell goes to one half or the other."""
    x, one = sparse.csr_matrix(adata.X), adata.copy()
    first = np.random.default_rng(seed).binomial(x.data.astype(int), 0.5)
    one.X, other = x.copy(), x.copy()
    one.X.data, other.data = first.astype(np.float32), x.data - first
    one.X.eliminate_zeros()
    return one, other.tocoo()


def completion(theta: np.ndarray, phi: np.ndarray, other: sparse.coo_matrix) -> float:
    """Perplexity of the other half under the mixture of topics."""
    p = theta.astype(np.float64) @ phi.astype(np.float64)
    return float(np.exp(-(other.data * np.log(p[other.row, other.col])).sum() / other.data.sum()))


# ------------------------------------------------------------------ methods
def by_average(train: AnnData, seed: int, given: Any) -> Fit:
    profile = np.asarray(train.X.sum(0)).ravel() + 0.01
    phi = (profile / profile.sum())[None]
    alone = lambda adata: np.ones((adata.n_obs, 1))  # noqa: E731
    return Fit(alone, phi, lambda adata: completion(alone(adata), phi, sparse.coo_matrix(adata.X)))


def by_vb(train: AnnData, seed: int, given: Any) -> Fit:
    model = LatentDirichletAllocation(given.topics, max_iter=given.iterations, random_state=seed).fit(train.X)
    phi = model.components_ / model.components_.sum(1, keepdims=True)
    return Fit(lambda adata: model.transform(adata.X), phi, lambda adata: _bound_of_vb(model, adata))


def _bound_of_vb(model: Any, adata: AnnData) -> float:
    """Its ELBO of the cells given the topics, as perplexity (``model.perplexity`` charges the topics to these few cells as well)."""
    x, alpha = sparse.coo_matrix(adata.X), model.doc_topic_prior_
    gamma = model._unnormalized_transform(sparse.csr_matrix(adata.X))
    log_theta = digamma(gamma) - digamma(gamma.sum(1, keepdims=True))
    log_phi = np.log(model.exp_dirichlet_component_)
    words = logsumexp([log_theta[x.row, k] + log_phi[k, x.col] for k in range(gamma.shape[1])], 0)
    prior = gammaln(alpha * gamma.shape[1]) - gammaln(gamma.sum(1)) + (gammaln(gamma) - gammaln(alpha)).sum(1)
    bound = (x.data * words).sum() + ((alpha - gamma) * log_theta).sum() + prior.sum()
    return float(np.exp(-bound / x.data.sum()))


def fit_of(model: Any, bound: Callable[[AnnData], float]) -> Fit:
    """What is asked of either model, by the same names."""
    return Fit(lambda adata: model.get_latent_representation(adata).to_numpy(), model.get_feature_by_topic().to_numpy().T, bound)


def by_scelbo(train: AnnData, seed: int, given: Any) -> Fit:
    scelbo.settings.seed = seed
    AmortizedLDA.setup_anndata(train)
    model = AmortizedLDA(train, n_topics=given.topics)
    model.train(given.epochs, train_size=1.0, accelerator="cpu", progress=False)
    return fit_of(model, model.get_perplexity)


def by_scvi_tools(train: AnnData, seed: int, given: Any) -> Fit:
    """Its own answers; the bound is that of our model with its weights, as its own is above 1 whatever the model says."""
    import pyro
    import scvi

    pyro.clear_param_store()
    scvi.settings.seed = seed
    scvi.model.AmortizedLDA.setup_anndata(train)
    theirs = scvi.model.AmortizedLDA(train, n_topics=given.topics)
    theirs.train(given.peer_epochs, train_size=1.0, accelerator="cpu", enable_progress_bar=False)
    AmortizedLDA.setup_anndata(train)
    twin = AmortizedLDA(train, n_topics=given.topics, encoder_reads="counts", n_layers=1)
    blocks.copy(pairs(twin.module, theirs.module))
    twin.is_trained = True
    return fit_of(theirs, twin.get_perplexity)


METHODS = {AVERAGE: by_average, VB: by_vb, PEER: by_scvi_tools, OURS: by_scelbo}


def scores(method: str, seed: int, given: Any) -> dict[str, float]:
    """One fit and what it is worth."""
    train, test = cells(seed)
    one, other = halves(test, seed)
    out: dict[str, Any] = {}
    out["CPU s to train"] = timed(lambda: out.update(fit=METHODS[method](train, seed, given)))
    fit: Fit = out.pop("fit")
    out["CPU s to ask"] = timed(lambda: out.update(theta=fit.theta(train)))
    theta = np.concatenate([out.pop("theta"), fit.theta(test)])
    types = np.concatenate([train.obs[TYPE].astype(str), test.obs[TYPE].astype(str)])
    clusters = [KMeans(len(set(types)), n_init=5, random_state=r).fit_predict(theta) for r in range(3)] if theta.shape[1] > 1 else []
    return {
        "completion": completion(fit.theta(one), fit.phi, other),
        "own bound": fit.bound(test),
        "NMI, largest topic": normalized_mutual_info_score(types, theta.argmax(1)),
        "NMI, k-means": float(np.mean([normalized_mutual_info_score(types, c) for c in clusters])) if clusters else 0.0,
        **out,
    }


# ------------------------------------------------------------------ asking
def asking(given: Any) -> tuple[float, float, float, float]:
    """CPU seconds of all proportions and their root mean square error, ours and theirs, each after an epoch of training."""
    import scvi

    with tempfile.TemporaryDirectory() as folder:
        simulate(SIZES["genes"], folder)
        adata = read(SIZES["genes"], folder)
    out: list[float] = []
    for kind, more in ((AmortizedLDA, {"progress": False}), (scvi.model.AmortizedLDA, {"enable_progress_bar": False})):
        kind.setup_anndata(adata)
        model = kind(adata)
        model.train(1, accelerator="cpu", **more)
        kept: dict[str, np.ndarray] = {}
        seconds = timed(lambda ask=model.get_latent_representation, kept=kept: kept.update(theta=ask().to_numpy()))  # type: ignore[misc]
        out += [seconds, _error(kept["theta"][:50], *_posterior(model, adata[:50].copy()))]
    return tuple(out)  # type: ignore[return-value]


def _posterior(model: Any, adata: AnnData) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of q(z | x) as either model answers with."""
    with torch.no_grad():
        if isinstance(model, AmortizedLDA):
            q = model.module.inference(next(model.batches(adata))).z
            return q.mean, q.stddev
        q, _ = model.module.guide.encoder(torch.from_numpy(adata.X.toarray()))
        return q.loc, torch.nn.functional.softplus(q.variance)


def _error(theta: np.ndarray, mean: torch.Tensor, sd: torch.Tensor, draws: int = 200_000) -> float:
    source, total = torch.Generator().manual_seed(7), torch.zeros(mean.shape, dtype=torch.float64)
    for _ in range(draws // 500):
        total += (mean + sd * torch.randn(500, *mean.shape, generator=source)).softmax(-1).sum(0)
    return float(np.sqrt(np.square(theta - (total / draws).numpy()).mean()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--epochs", type=int, help="of scelbo (default: its own rule)")
    parser.add_argument("--peer-epochs", type=int, default=100, help="of scvi-tools, of which the own rule gives 1,000")
    parser.add_argument("--iterations", type=int, default=30, help="of scikit-learn, of which the default is 10")
    parser.add_argument("--only", default="", help="methods whose name holds this")
    parser.add_argument("--no-asking", action="store_true", help="leave out the simulated cells")
    given = parser.parse_args()
    if not DATA.exists():
        print(f"skipped: {DATA.name} is not there")
        return 0
    quiet()
    failed = []
    tables = {m: pd.DataFrame([scores(m, seed, given) for seed in range(given.seeds)]) for m in METHODS if given.only in m}
    print(f"{given.topics} topics, {GENES:,} genes, {given.seeds} seeds (means, +- half of the range)\n")
    head = list(next(iter(tables.values())))
    print(f"| | {' | '.join(head)} |\n|{'---|' * (len(head) + 1)}")
    for method, table in tables.items():
        print(f"| {method} | {' | '.join(f'{table[c].mean():.5g} +- {np.ptp(table[c]) / 2:.2g}' for c in head)} |", flush=True)
    if not given.only:
        ours, vb = tables[OURS].mean(), tables[VB].mean()
        failed += [c for c in ("completion", "own bound") if ours[c] > vb[c] * (1 + EQUAL)]
        failed += [c for c in ("NMI, largest topic", "NMI, k-means") if ours[c] < vb[c] * (1 - EQUAL)]
    if not given.no_asking:
        seconds, error, theirs, their_error = asking(given)
        print(f"\nproportions of 20,000 cells x 4,000 genes: scelbo {seconds:.2f} CPU s, error {error:.1e}; ", end="")
        print(f"scvi-tools {theirs:.1f} CPU s, error {their_error:.1e}: **{theirs / seconds:.0f}x**")
        failed += ["time to ask"] * (theirs / seconds < FASTER) + ["accuracy of proportions"] * (error > their_error)
    print(f"\n({load()})")
    print(f"\nFAILED: {', '.join(failed)}" if failed else "\npassed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
