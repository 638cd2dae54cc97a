"""Numbers that either model estimates with draws of its own: equal up to Monte-Carlo error, which repeats tell."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scvi
import torch
from anndata import AnnData
from scipy import sparse

from peer.compare import Topic, markdown
from scelbo import SCVI
from scelbo.analysis.mixture import importance_weights
from scelbo.data.simulate import counts
from scelbo.scvi_tools import blocks, maps

REPEATS, DRAWS, CELLS = 8, 200, 60
ERRORS = 4.0
"""Standard errors that two estimates may lie apart."""
ERRORS_WEIGHTS = 3.0
"""The same of log weights, all draws of z together (root mean squares). The noise in log p(x_n) moves all draws near anchor n at once, so
that the ratio rests on some ten numbers rather than on as many as there are draws, and scatters around 1. A proposal of the draw's own
cell alone, in place of the mixture, would be five standard errors away."""


class Agreement(NamedTuple):
    """Two estimates of one number, with the standard error of their difference."""

    ours: float
    theirs: float
    error: float

    @property
    def apart(self) -> float:
        """In standard errors."""
        return abs(self.ours - self.theirs) / self.error


def trained(epochs: int = 100) -> tuple[SCVI, Any]:
    """Trained by scvi-tools, its weights in our model. One batch and cells of one size: there, both define importance weights alike.

    scvi-tools weighs a draw z by every anchor as if the anchor had the library size of the cell that z came from, ours by the anchor's own.
    """
    rng, simulated = np.random.default_rng(0), counts(300, 40, n_batches=1, stored=0.4)
    shares = simulated.X.toarray() + 0.1
    x = np.stack([rng.multinomial(200, share / share.sum()) for share in shares])
    adata = AnnData(sparse.csr_matrix(x.astype(np.float32)))
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    theirs = scvi.model.SCVI(adata, n_latent=4, gene_likelihood="nb")
    theirs.train(epochs, accelerator="cpu", enable_progress_bar=False)
    SCVI.setup_anndata(adata)
    ours = SCVI(adata, n_latent=4, gene_likelihood="nb")
    blocks.copy(maps.scvi(ours.module, theirs.module))
    ours.is_trained = True
    ours.module.eval()
    theirs.module.eval()
    return ours, theirs


def marginals(ours: SCVI, theirs: Any) -> tuple[Agreement, float]:
    """log p(x) of a cell by either at as many draws, and the ELBO that it has to exceed.

    One value a cell is asked for: the mean that scvi-tools gives weighs a small last minibatch as much as a whole one.
    """
    rows = np.arange(CELLS)
    mine, others = [], []
    for seed in range(REPEATS):
        mine.append(ours.get_marginal_ll(indices=rows, n_mc_samples=DRAWS, seed=seed))
        scvi.settings.seed = seed
        others.append(float(np.mean(np.asarray(theirs.get_marginal_ll(indices=rows, n_mc_samples=DRAWS, return_mean=False)))))
    error = np.sqrt((np.var(mine, ddof=1) + np.var(others, ddof=1)) / REPEATS)
    elbo = np.mean([ours.get_elbo(indices=rows, seed=seed) for seed in range(REPEATS)])
    return Agreement(float(np.mean(mine)), float(np.mean(others)), float(error)), float(elbo)


def weights(ours: SCVI, theirs: Any, n_mc_samples: int = DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """Log importance weights (repeats, draws) of the same z by either, less their mean: only ratios matter."""
    rows = np.arange(CELLS)
    tensors = next(iter(theirs._make_data_loader(theirs.adata, indices=rows, batch_size=CELLS)))
    with torch.inference_mode():
        inferred = theirs.module.inference(**theirs.module._get_inference_input(tensors))
        px = theirs.module.generative(**theirs.module._get_generative_input(tensors, inferred))["px"]
    z, found = inferred["z"], ([], [])
    for seed in range(REPEATS):
        scvi.settings.seed = seed
        asked = {"max_cells": CELLS, "n_mc_samples": n_mc_samples}
        values = (
            importance_weights(ours, None, rows, z, n_mc_samples=n_mc_samples, seed=seed),
            theirs.get_importance_weights(theirs.adata, rows, inferred["qz"], px, z, **asked),
        )
        for logs, value in zip(found, values, strict=True):
            log = np.log(np.asarray(value, float)).ravel()
            logs.append(log - log.mean())
    return np.stack(found[0]), np.stack(found[1])


def apart(mine: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """Root mean squares over draws: difference of the mean log weights, its standard error; and how far the weights themselves spread."""
    error = (mine.var(0, ddof=1) + others.var(0, ddof=1)) / len(mine)
    difference = mine.mean(0) - others.mean(0)
    return float(np.sqrt((difference**2).mean())), float(np.sqrt(error.mean())), float(mine.mean(0).std())


def topic() -> Topic:
    """Marginal likelihood and importance weights beside their Monte-Carlo error."""
    ours, theirs = trained()
    ll, elbo = marginals(ours, theirs)
    distance, error, spread = apart(*weights(ours, theirs))
    wrong = {
        f"log p(x) differs by {ll.apart:.1f} standard errors": ll.apart > ERRORS,
        "log p(x) is not above the ELBO": min(ll.ours, ll.theirs) <= elbo,
        f"log importance weights differ by {distance / error:.1f} standard errors": distance > ERRORS_WEIGHTS * error,
    }
    of_ll = (ll.ours, ll.theirs, abs(ll.ours - ll.theirs), ll.error, ERRORS * ll.error)
    of_weights = (distance, error, ERRORS_WEIGHTS * error)
    rows = [
        (f"log p(x), above the ELBO of {elbo:.3f}", *(f"{v:.3f}" for v in of_ll)),
        (f"log importance weights, root mean square (they spread by {spread:.2f})", "", "", *(f"{v:.3f}" for v in of_weights)),
    ]
    title = f"scVI: estimates of {DRAWS} draws a cell, the mean of {REPEATS} repeats"
    head = ("estimate", "scelbo", "scvi-tools", "difference", "its Monte-Carlo error", "allowed")
    return Topic(markdown(title, head, rows), [text for text, is_so in wrong.items() if is_so])
