"""Posterior draws of many pools of cells from one decoding, in tiles of features so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse

from scelbo import settings
from scelbo.analysis.expression import decode
from scelbo.analysis.groups import Comparison, Design
from scelbo.data import Loader

if TYPE_CHECKING:
    from scelbo.model import Model

BYTES = 1 << 30
"""Memory for decoded draws; more features than fit are decoded tile by tile, with the same draws."""
CELLS_AT_ONCE = 512


class Draws:
    """Draws of the expected proportions in each pool: cells are drawn first, and only those are decoded.

    Parameters
    ----------
    model, adata
        The model, and the cells.
    design
        Pools of cells.
    n
        Draws a side.
    batches
        Codes of batches to decode in, the same at the same position of every pool; None keeps each cell's own.
    seed
        Of the draws.
    """

    def __init__(self, model: Model, adata: AnnData | None, design: Design, n: int, batches: np.ndarray | None, seed: int | None):
        self.model, self.design, self.n, self.seed = model, design, n, settings.fresh_seed(seed)
        self.data, rng = model.read(adata), np.random.default_rng(self.seed)
        self.per_pool = _draws_a_pool(design, n, 1 if batches is None else len(batches))
        self.cells = np.concatenate([rng.choice(pool, self.per_pool) for pool in design.pools])
        self.batches = None if batches is None else np.tile(np.resize(batches, self.per_pool), len(design.pools))
        self.mixture = np.random.default_rng([self.seed, 1])
        self.whole: np.ndarray | None = None

    def tiles(self, features: np.ndarray, progress: bool | None = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(features, their draws (features, pools * draws a pool)), as many features at once as memory allows."""
        width = max(1, BYTES // (4 * len(self.cells)))
        parts = [features[i : i + width] for i in range(0, len(features), width)]
        if self.whole is not None:
            yield features, self.whole
            return
        with settings.task("Decoding", len(parts) * len(self.cells), progress) as work:
            for part in parts:
                decoded = self._decode(part, work)
                self.whole = decoded if len(parts) == 1 else None  # a second pass need not decode again
                yield part, decoded

    @torch.inference_mode()
    def _decode(self, features: np.ndarray, work: settings.Task) -> np.ndarray:
        out = np.empty((len(features), len(self.cells)), np.float32)
        whole = len(features) == self.model.setup.n_vars
        with settings.private_seed(self.seed):  # every tile sees the same draws
            start = 0
            for cells in Loader(self.data, self.cells, CELLS_AT_ONCE):
                here = slice(start, start + len(cells))
                view: dict[str, Any] = {} if self.batches is None else {"batch": torch.from_numpy(self.batches[here])}
                values = decode(self.model, cells.to(self.model.device), [view], 1, genes=None if whole else features)[0]
                out[:, here] = values.T.cpu().numpy()
                start = here.stop
                work.step(len(cells))
        return out

    def sides(self, pools1: tuple[int, ...], pools2: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the decoded draws for each side; several pools are mixed in proportion to their cells."""
        return self._columns(pools1), self._columns(pools2)

    def _columns(self, pools: tuple[int, ...]) -> np.ndarray:
        at = np.arange(self.n) % self.per_pool
        sizes = np.array([len(self.design.pools[p]) for p in pools], float)
        return self.mixture.choice(pools, self.n, p=sizes / sizes.sum()) * self.per_pool + at


def _draws_a_pool(design: Design, n: int, n_batches: int) -> int:
    """As many as a side has; where replicates are pools of their own, a side's draws are shared out among them.

    A multiple of the number of batches, so that draws at one position are decoded in one batch.
    """
    shares = max((len(c.pools1) for c in design.comparisons if c.replicates), default=1)
    return -(-n // (shares * n_batches)) * n_batches


class RawSums:
    """Sums over the cells of each pool, from one pass over the raw counts."""

    def __init__(self, model: Model, adata: AnnData | None, design: Design):
        data, pools = model.read(adata), design.pools
        cells = np.unique(np.concatenate(pools))
        member = sparse.csr_matrix(np.stack([np.isin(cells, pool) for pool in pools]).astype(np.float64))
        self.n = np.array([len(np.unique(pool)) for pool in pools])
        shape = (len(pools), model.setup.n_vars)
        self.counts, self.present, self.shares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        start = 0
        for batch in Loader(data, cells, 4096):
            x = batch.x  # type: ignore[attr-defined]
            rows = sparse.csr_matrix((x.val.numpy(), x.col.numpy(), x.crow.numpy()), shape=(len(x), x.n_vars))
            here = member[:, start : start + len(x)]
            self.counts += (here @ rows).toarray()
            self.shares += (here @ sparse.diags(1 / np.maximum(x.size.numpy()[:, 0], 1e-12)) @ rows).toarray()
            rows.data = (rows.data > 0).astype(np.float64)
            self.present += (here @ rows).toarray()
            start += len(x)

    def mean(self, pools: tuple[int, ...]) -> np.ndarray:
        """Mean count of each feature."""
        return self._over(self.counts, pools)

    def columns(self, comparison: Comparison) -> dict[str, np.ndarray]:
        """Mean count, share of cells with a count, and mean count a 10,000, on each side."""
        out = {}
        for name, sums, unit in (
            ("raw_mean", self.counts, 1),
            ("non_zeros_proportion", self.present, 1),
            ("raw_normalized_mean", self.shares, 1e4),
        ):
            for side, pools in (("1", comparison.pools1), ("2", comparison.pools2)):
                out[name + side] = self._over(sums, pools) * unit
        return out

    def _over(self, sums: np.ndarray, pools: tuple[int, ...]) -> np.ndarray:
        return sums[list(pools)].sum(0) / self.n[list(pools)].sum()
