"""Does scelbo compute what scvi-tools computes? The same weights in both, in float64, over every combination of options.

Prints the largest relative difference of each quantity and ends with an error if any is above 1e-5, if the comparison does not notice
when one weight is changed, or if what either estimates with draws of its own differs by more than their Monte-Carlo error. Run with
``make parity``.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import scvi
import torch
from anndata import AnnData
from peer import posterior, transfer
from peer.differential import Pair
from peer.scvi import Both, both, losses
from torch import Tensor

from scelbo.data.simulate import counts

TOLERANCE = 1e-5
Case = tuple[dict[str, Any], dict[str, Any]]  # setup_anndata's arguments, the constructor's

LIKELIHOODS = ("zinb", "nb", "poisson", "normal")
DISPERSIONS = ("gene", "gene-batch", "gene-label", "gene-cell")
BATCH = {"batch_key": "batch", "labels_key": "cell_type"}
MORE = {**BATCH, "categorical_covariate_keys": ["donor", "site"], "continuous_covariate_keys": ["percent_mito", "score"]}
LIBRARIES: dict[str, Case] = {
    "observed": ({}, {}),
    "latent": ({}, {"use_observed_lib_size": False}),
    "size factor": ({"size_factor_key": "size_factor"}, {}),
}
COVARIATES: dict[str, Case] = {
    "batch": (BATCH, {}),
    "batch, encoded, 2 layers": (BATCH, {"encode_covariates": True, "n_layers": 2}),
    "all, encoded, 2 layers": (MORE, {"encode_covariates": True, "n_layers": 2}),
    "all, encoded, first layer only": (MORE, {"encode_covariates": True, "n_layers": 2, "deeply_inject_covariates": False}),
}
OTHERS: list[Case] = [
    ({"labels_key": "cell_type"}, {}),  # one batch only
    ({"labels_key": "cell_type"}, {"dispersion": "gene-batch", "use_observed_lib_size": False}),
    (BATCH, {"latent_distribution": "ln"}),
    (MORE, {"latent_distribution": "ln", "encode_covariates": True, "n_layers": 2, "n_latent": 3}),
    ({**BATCH, "layer": "capped"}, {"log_variational": False}),
    (BATCH, {"n_hidden": 32, "n_latent": 4, "n_layers": 3}),
    (BATCH, {"batch_representation": "embedding"}),
    (MORE, {"batch_representation": "embedding", "encode_covariates": True, "n_layers": 2}),
    (MORE, {"batch_representation": "embedding", "deeply_inject_covariates": False, "n_layers": 2, "dispersion": "gene-batch"}),
    *(
        (MORE, {"use_batch_norm": b, "use_layer_norm": n, "n_layers": 2})
        for b, n in product(("encoder", "decoder", "none", "both"), repeat=2)
    ),
]


def cases() -> Iterator[Case]:
    """Every likelihood x dispersion x library size x covariates, and what is varied alone."""
    for likelihood, dispersion, library, covariates in product(LIKELIHOODS, DISPERSIONS, LIBRARIES, COVARIATES):
        (keys, hyper), (more_keys, more_hyper) = LIBRARIES[library], COVARIATES[covariates]
        yield {**keys, **more_keys}, {**hyper, **more_hyper, "gene_likelihood": likelihood, "dispersion": dispersion}
    yield from OTHERS


def cells(n_cells: int = 120, n_genes: int = 80) -> AnnData:
    """Simulated cells with one covariate of every kind."""
    adata, rng = counts(n_cells, n_genes, n_batches=3, stored=0.3), np.random.default_rng(0)
    adata.layers["capped"] = adata.X.minimum(3)
    adata.obs["site"] = rng.choice(["north", "south"], n_cells)
    adata.obs["score"] = rng.normal(size=n_cells)
    adata.obs["size_factor"] = rng.uniform(0.5, 2, n_cells)
    return adata


def difference(ours: Tensor, theirs: Tensor, share: float = 1e-3, floor: float = 1e-300) -> float:
    """Largest relative difference, element by element; what is below ``share`` of the largest value is held against that share.

    ``floor`` is for tensors that are nothing but rounding (the gradient of a bias that a batch norm takes out again).
    """
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.detach(), theirs.detach()
    scale = theirs.abs().clamp_min(share * float(theirs.abs().max()))
    worst = float(((ours - theirs).abs() / scale.clamp_min(floor)).max())
    return worst if np.isfinite(worst) else float("inf")


def compare(pair: Both) -> dict[str, float]:
    """Quantity -> largest difference: as the models stand, and of the gradients that training would follow."""
    ours, theirs = losses(pair, kl_weight=0.7)
    found = {name: difference(ours[name], theirs[name]) for name in {**ours, **theirs}}
    if pair.priors is not None:
        found["l prior"] = difference(*pair.priors)
    both_gradients = gradients(pair)
    steepest = max(float(theirs.abs().max()) for _, theirs in both_gradients)
    found["gradients"] = max(difference(*g, share=0.1, floor=1e-6 * steepest) for g in both_gradients)
    return found


def gradients(pair: Both) -> list[tuple[Tensor, Tensor]]:
    """The loss's gradient in every parameter in training mode (batch statistics, no dropout), ours and the peer's."""
    modules = (pair.ours.module, pair.theirs.module)
    for module in modules:
        module.zero_grad()
        module.train()
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.eval()
    for values in losses(pair, kl_weight=0.7):
        values["loss"].backward()
    for module in modules:
        module.eval()
    return [(p.ours.grad, p.view(p.theirs.grad)) for p in pair.pairs if p.ours.grad is not None]


def unnoticed(adata: AnnData) -> list[str]:
    """Change one number of each parameter in turn, where the loss feels it most, and name the changes that the comparison misses."""
    pair = both(adata, MORE, encode_covariates=True, n_layers=2, use_observed_lib_size=False, dispersion="gene-batch")
    felt = dict(zip((p.name for p in pair.pairs if p.ours.requires_grad), gradients(pair), strict=True))
    missed = []
    for p in pair.pairs:
        if p.name not in felt:
            continue
        flat = p.ours.data.view(-1)
        at = int(felt[p.name][0].abs().argmax())
        before = float(flat[at])
        flat[at] += 0.01
        if max(compare(pair).values()) <= TOLERANCE:
            missed.append(p.name)
        flat[at] = before
    return missed


def comparisons() -> Iterator[dict[str, Any]]:
    """Differential expression in every mode, against one group and against the rest."""
    for group2 in ("type2", None):
        asked = {"groupby": "cell_type", "group1": "type1", "group2": group2}
        yield asked | {"mode": "vanilla"}
        for more in ({}, {"test_mode": "two"}, {"delta": 1.0}, {"pseudocounts": 1e-3}, {"cred_interval_lvls": [0.5, 0.95]}):
            yield asked | {"mode": "change"} | more


def compare_tables() -> dict[str, float]:
    """Column of the differential tables -> largest difference, from the same posterior draws."""
    pair, worst = Pair(cells(400)), defaultdict(float)
    for asked in comparisons():
        ours, theirs = pair.tables(**asked)
        for column in theirs:
            if theirs[column].dtype.kind == "f" and column in ours:
                values = (torch.tensor(table[column].to_numpy()) for table in (ours, theirs))
                found = difference(*values, share=0.1)  # the draws have 7 digits
            else:
                found = 0.0 if column in ours and (ours[column] == theirs[column]).all() else float("inf")
            worst[column] = max(worst[column], found)
    return worst


def compare_queries(adata: AnnData) -> dict[str, float]:
    """Quantity -> largest difference, for a query on a reference, and for the reference's cells in the query's model."""
    worst, reference = defaultdict(float), adata[np.arange(adata.n_obs) % 2 == 1].copy()
    for hyper in transfer.OPTIONS:
        pair, came = transfer.query(adata, **hyper)
        found = {"came with the reference": max(difference(*values) for values in came)}
        for cells, of in (("query", None), ("reference", reference)):
            ours, theirs = losses(pair, adata=of)
            found |= {f"{name}, {cells} cells": difference(ours[name], theirs[name]) for name in {**ours, **theirs}}
        for name, value in found.items():
            worst[name] = max(worst[name], value)
    return worst


def compare_estimates() -> list[str]:
    """Marginal likelihood and importance weights, printed beside their Monte-Carlo error; what is wrong with them."""
    ours, theirs = posterior.trained()
    ll, elbo = posterior.marginals(ours, theirs)
    apart, error, spread = posterior.apart(*posterior.weights(ours, theirs))
    print(f"\nEstimates of {posterior.DRAWS} draws a cell, the mean of {posterior.REPEATS} repeats\n")
    print("| estimate | scelbo | scvi-tools | difference | its Monte-Carlo error | allowed |\n|---|---|---|---|---|---|")
    print(
        f"| log p(x), above the ELBO of {elbo:.3f} | {ll.ours:.3f} | {ll.theirs:.3f} | {abs(ll.ours - ll.theirs):.3f} | {ll.error:.3f} "
        f"| {posterior.ERRORS * ll.error:.3f} |"
    )
    print(
        f"| log importance weights, root mean square (they spread by {spread:.2f}) | | | {apart:.3f} | {error:.3f} "
        f"| {posterior.ERRORS_WEIGHTS * error:.3f} |"
    )
    wrong = {
        f"log p(x) differs by {ll.apart:.1f} standard errors": ll.apart > posterior.ERRORS,
        "log p(x) is not above the ELBO": min(ll.ours, ll.theirs) <= elbo,
        f"log importance weights differ by {apart / error:.1f} standard errors": apart > posterior.ERRORS_WEIGHTS * error,
    }
    return [text for text, is_so in wrong.items() if is_so]


def main() -> int:
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = logging.ERROR
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    adata, worst, failed = cells(), defaultdict(float), []
    everything = list(cases())
    for keys, hyper in everything:
        for name, value in compare(both(adata, keys, **hyper)).items():
            worst[name] = max(worst[name], value)
            if value > TOLERANCE:
                failed.append(f"{name} differs by {value:.1e}: {hyper}, {keys}")
    print(f"scelbo beside scvi-tools {scvi.__version__}: {len(everything)} models, the same weights, float64\n")
    print("| quantity | largest relative difference |\n|---|---|")
    for name, value in worst.items():
        print(f"| {name} | {value:.1e} |")
    tables = compare_tables()
    failed += [f"{column} differs by {value:.1e}" for column, value in tables.items() if value > TOLERANCE]
    print(f"\n{len(list(comparisons()))} differential tables from the same posterior draws\n")
    print("| column | largest relative difference |\n|---|---|")
    for column, value in tables.items():
        print(f"| {column} | {value:.1e} |")
    queries = compare_queries(adata)
    failed += [f"{name} differs by {value:.1e}" for name, value in queries.items() if value > TOLERANCE]
    print(f"\n{len(transfer.OPTIONS)} queries on a reference (float32 while they are loaded), with a new batch whose weights are copied\n")
    print("| quantity | largest relative difference |\n|---|---|")
    for name, value in queries.items():
        print(f"| {name} | {value:.1e} |")
    failed += compare_estimates()
    missed = unnoticed(adata)
    seen = f"NOT noticed in {', '.join(missed)}" if missed else "noticed, in every parameter of the model"
    print(f"\nOne weight changed by 0.01: {seen}")
    print(*failed[:20], sep="\n")
    print("FAILED" if failed or missed else f"passed (tolerance {TOLERANCE:.0e})")
    return int(bool(failed or missed))


if __name__ == "__main__":
    sys.exit(main())
