"""Simulated data with known structure, for examples, tests and benchmarks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse


def counts(
    n_cells: int = 500,
    n_genes: int = 200,
    *,
    n_types: int = 4,
    n_batches: int = 2,
    stored: float = 0.2,
    batch_effect: float = 0.3,
    seed: int = 0,
) -> AnnData:
    r"""Negative binomial counts of cells of several types in several batches.

    :math:`x_{ng} \sim NB(l_n \rho_{ng}, \theta_g)` with :math:`\rho = \mathrm{softmax}(a_g + T_{t(n) g} + B_{b(n) g})`, where each type
    changes 15 % of the genes and the library size l is log-normal.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_batches
        Sizes.
    stored
        Share of values above zero that the library size is chosen for.
    batch_effect
        Standard deviation of B (natural-log scale).
    seed
        Of the draws.

    Returns
    -------
    AnnData with ``obs``: ``batch, cell_type, donor, percent_mito`` (no effect), and whole counts in ``X``.
    """
    rng = np.random.default_rng(seed)
    base, theta = rng.normal(0, 1.6, n_genes), rng.gamma(2, 1, n_genes) + 0.2
    types = rng.normal(0, 1.5, (n_types, n_genes)) * (rng.random((n_types, n_genes)) < 0.15)
    batches = rng.normal(0, batch_effect, (n_batches, n_genes))
    kind, batch, depth = rng.integers(n_types, size=n_cells), rng.integers(n_batches, size=n_cells), rng.lognormal(0, 0.45, n_cells)

    def draw(rows: np.ndarray, size: float, source: np.random.Generator) -> np.ndarray:
        eta = base + types[kind[rows]] + batches[batch[rows]]
        rho = np.exp(eta - eta.max(1, keepdims=True))
        mu = rho / rho.sum(1, keepdims=True) * depth[rows, None] * size
        x = source.poisson(source.gamma(theta, mu / theta)).astype(np.float32)
        empty = x.sum(1) == 0  # no model reads a cell without counts
        x[empty, mu[empty].argmax(1)] = 1
        return x

    low, high, few = 10.0, 1e6, np.arange(min(n_cells, 300))
    for _ in range(16):  # bisection for the mean library size
        size = (low * high) ** 0.5
        low, high = (size, high) if (draw(few, size, np.random.default_rng(1)) > 0).mean() < stored else (low, size)
    blocks = np.array_split(np.arange(n_cells), max(1, n_cells // 2000, n_cells * n_genes // 50_000_000))
    x = sparse.vstack([sparse.csr_matrix(draw(rows, size, rng)) for rows in blocks]).tocsr()
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical([f"batch{b}" for b in batch]),
            "cell_type": pd.Categorical([f"type{t}" for t in kind]),
            "donor": pd.Categorical([f"donor{d}" for d in rng.integers(3, size=n_cells)]),
            "percent_mito": rng.gamma(4, 1, n_cells).astype(np.float32),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"gene{g}" for g in range(n_genes)]))


def cite(n_cells: int = 500, n_genes: int = 200, n_proteins: int = 6, *, missing: str | None = None, seed: int = 0, **more: Any) -> AnnData:
    r"""The cells of :func:`counts` with proteins in ``obsm["protein_expression"]``.

    Each protein marks one type (in turn): :math:`y \sim \mathrm{NB}(\beta \alpha^{m}, \phi)` with background :math:`\beta`, 8 to 30 times
    that in cells of its type (m = 1).

    Parameters
    ----------
    n_cells, n_genes, n_proteins
        Sizes.
    missing
        A batch in which no protein was measured: zeros.
    seed
        Of the draws.
    **more
        Further arguments of :func:`counts`.

    Returns
    -------
    AnnData as of :func:`counts`; ``obsm["foreground"]`` is the truth, (cells, proteins).
    """
    adata, rng = counts(n_cells, n_genes, seed=seed, **more), np.random.default_rng([seed, 1])
    kinds = adata.obs["cell_type"].cat.codes.to_numpy()
    marks = np.arange(n_proteins) % (kinds.max() + 1)
    there = kinds[:, None] == marks
    back, times = rng.uniform(2, 8, n_proteins), rng.uniform(8, 30, n_proteins)
    mu = rng.lognormal(np.log(back), 0.3, (n_cells, n_proteins)) * np.where(there, times, 1)
    y = rng.poisson(rng.gamma(5, mu / 5)).astype(np.float32)
    if missing is not None:
        y[(adata.obs["batch"] == missing).to_numpy()] = 0
    adata.obsm["protein_expression"] = pd.DataFrame(y, adata.obs_names, [f"protein{p}" for p in range(n_proteins)])
    adata.obsm["foreground"] = there
    return adata


def multiome(
    n_cells: int = 500,
    n_genes: int = 200,
    n_regions: int = 400,
    n_proteins: int = 0,
    *,
    lacking: float = 0.0,
    seed: int = 0,
    **more: Any,
) -> AnnData:
    """Cells of several types with genes and regions side by side, as ``var["feature_types"]`` says, and proteins in ``obsm``.

    Genes as in :func:`counts`, proteins as in :func:`cite`, both of the same types in the same batches as the regions, which are seen or
    not: each type opens 15 % of them.

    Parameters
    ----------
    n_cells, n_genes, n_regions, n_proteins
        Sizes; without proteins there is no ``obsm``.
    lacking
        Share of the cells that have no genes, and of those that have no regions (zeros).
    seed
        Of the draws.
    **more
        Further arguments of :func:`counts`.

    Returns
    -------
    AnnData as of :func:`counts`, with ``obs["measured"]``: ``both, expression`` or ``accessibility``.
    """
    genes = cite(n_cells, n_genes, n_proteins, seed=seed, **more) if n_proteins else counts(n_cells, n_genes, seed=seed, **more)
    rng = np.random.default_rng([seed, 2])
    kinds, batches = (genes.obs[c].cat.codes.to_numpy() for c in ("cell_type", "batch"))
    base = rng.normal(-2, 1, n_regions)
    opened = rng.normal(0, 2, (kinds.max() + 1, n_regions)) * (rng.random((kinds.max() + 1, n_regions)) < 0.15)
    shift = rng.normal(0, 0.3, (batches.max() + 1, n_regions))
    seen = rng.uniform(0.5, 0.9, (n_cells, 1)) / (1 + np.exp(-(base + opened[kinds] + shift[batches])))
    x = rng.poisson(seen)
    x[x.sum(1) == 0, 0] = 1
    has = rng.choice(["expression", "accessibility", "both"], n_cells, p=[lacking, lacking, 1 - 2 * lacking])
    rows = sparse.csr_matrix(x.astype(np.float32)).multiply((has != "expression")[:, None])
    both = sparse.hstack([genes.X.multiply((has != "accessibility")[:, None]), rows], format="csr")
    var = pd.DataFrame(
        {"feature_types": ["Gene Expression"] * n_genes + ["Peaks"] * n_regions},
        index=[*genes.var_names, *(f"region{r}" for r in range(n_regions))],
    )
    return AnnData(both, obs=genes.obs.assign(measured=pd.Categorical(has)), var=var, obsm=dict(genes.obsm))


def spots(
    n_spots: int = 200, n_cells: int = 400, n_genes: int = 200, *, n_types: int = 4, cells_a_spot: float = 6.0,
    depth: float = 0.5, seed: int = 0, **more: Any,
) -> tuple[AnnData, AnnData]:  # fmt: skip
    r"""Dissociated cells, and spots that are sums of other such cells, with the shares of their types known.

    A spot has 1 + Poisson(``cells_a_spot`` - 1) cells of few types, its mixture drawn from Dirichlet(0.3). Each count is kept with the
    chance ``depth`` times an efficiency of its gene, uniform in (0.5, 1).

    Parameters
    ----------
    n_spots, n_cells, n_genes, n_types
        Sizes.
    cells_a_spot, depth
        Above.
    seed
        Of the draws.
    **more
        Further arguments of :func:`counts`.

    Returns
    -------
    The cells, as of :func:`counts`; and the spots with ``obs["batch"]``, ``obsm["proportions"]`` (shares of the spot's counts, a data
    frame spots x types) and ``obsm["spatial"]``, their places.
    """
    rng = np.random.default_rng([seed, 3])
    whole = counts(2 * n_cells, n_genes, n_types=n_types, n_batches=1, seed=seed, **more)
    cells, others = whole[:n_cells].copy(), whole[n_cells:]
    x, shares = sums(
        others.X, others.obs["cell_type"].cat.codes.to_numpy(), n_spots, rng, cells_a_spot, depth * rng.uniform(0.5, 1, n_genes)
    )
    return cells, as_spots(x, shares, list(cells.var_names), list(cells.obs["cell_type"].cat.categories))


def sums(
    x: Any,
    code: np.ndarray,
    n_spots: int,
    rng: np.random.Generator,
    cells_a_spot: float,
    kept: Any,
    concentration: float = 0.3,
    distinct: bool = False,
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Sums of cells (see :func:`spots`) of known types, real ones too.

    Parameters
    ----------
    x, code
        Counts of cells, and their types.
    n_spots, rng, cells_a_spot
        How many, by which draws, of how many cells on average.
    kept
        The chance that a count is kept, one or one a gene.
    concentration
        Of the Dirichlet that a spot's mixture is drawn from.
    distinct
        No spot has a cell twice (so those of few cells have fewer): else few cells differ more from spot to spot than many would.

    Returns
    -------
    Counts (spots x genes), and the share of each type in the counts before any were lost (spots x types).
    """
    x, n_types = sparse.csr_matrix(x), int(code.max()) + 1
    order, n_of_type = np.argsort(code, kind="stable"), np.bincount(code, minlength=n_types)
    mixture = np.zeros((n_spots, n_types))
    mixture[:, n_of_type > 0] = rng.dirichlet(np.full((n_of_type > 0).sum(), concentration), n_spots)
    picks = rng.multinomial(1 + rng.poisson(cells_a_spot - 1, n_spots), mixture).ravel()
    spot, of_type = np.divmod(np.repeat(np.arange(picks.size), picks), n_types)
    nth = (rng.random(len(spot)) * n_of_type[of_type]).astype(int)
    cell = order[np.cumsum(n_of_type)[of_type] - n_of_type[of_type] + nth]
    held = sparse.csr_matrix((np.ones(len(cell)), (spot, cell)), shape=(n_spots, x.shape[0]))
    held.sum_duplicates()
    held.data[:] = 1 if distinct else held.data
    shares = np.asarray(held @ (np.asarray(x.sum(1)) * np.eye(n_types)[code]))
    whole = sparse.csr_matrix(held @ x)
    chance = np.broadcast_to(kept, x.shape[1])[whole.indices]
    seen = rng.binomial(whole.data.astype(int), chance).astype(np.float32)
    out = sparse.csr_matrix((seen, whole.indices, whole.indptr), shape=whole.shape)
    for s in np.flatnonzero(np.asarray(out.sum(1)) == 0):  # no model reads a spot without counts
        out.data[whole.indptr[s] + whole.data[whole.indptr[s] : whole.indptr[s + 1]].argmax()] = 1
    out.eliminate_zeros()
    return out, shares / shares.sum(1, keepdims=True)


def as_spots(x: sparse.csr_matrix, shares: np.ndarray, genes: list[str], types: list[str]) -> AnnData:
    """Spots of two slides in turn, with what is in them in ``obsm["proportions"]``, in layers of the type that they hold most of."""
    side, order = math.ceil(len(shares) ** 0.5), np.lexsort((shares.max(1), shares.argmax(1)))
    places = np.empty((len(shares), 2))
    places[order] = np.column_stack(np.divmod(np.arange(len(shares)), side))
    names = [f"spot{s}" for s in range(len(shares))]
    obs = pd.DataFrame({"batch": pd.Categorical([f"slide{s % 2}" for s in range(len(shares))])}, index=names)
    return AnnData(x, obs=obs, var=pd.DataFrame(index=genes), obsm={"proportions": pd.DataFrame(shares, names, types), "spatial": places})
