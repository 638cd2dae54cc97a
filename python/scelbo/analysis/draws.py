"""Posterior draws of many pools of cells from one decoding, in tiles of features so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.decode import decode, decode_at, rows_at_once
from scelbo.analysis.groups import Comparison, Design
from scelbo.analysis.latent import latent_representation
from scelbo.analysis.minify import posterior_parameters
from scelbo.analysis.mixture import importance_weights, tempered
from scelbo.data import Counts, Loader
from scelbo.data.minified import Gone
from scelbo.kernels import array, compiled, loop
from scelbo.module import VAE, draw

if TYPE_CHECKING:
    from scelbo.model import Model

Columns = np.ndarray | slice
BYTES = 1 << 30
"""Memory for decoded draws; more features than fit are decoded tile by tile, with the same draws."""
CELLS_AT_ONCE = 256


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
    anchors
        Give draws the weights that :func:`~scelbo.analysis.mixture.importance_weights` finds, from at most so many cells a pool;
        None: all draws count the same.
    pairs
        Compare so many pairs of draws chosen at random; None: each draw of one side with one of the other.
    of, read
        The field whose features are decoded, and what is read of their likelihood (None: its scale).
    by_draw
        Whether the features of a draw stand next to each other in memory (else the draws of a feature).
    """

    def __init__(
        self,
        model: Model,
        adata: AnnData | None,
        design: Design,
        n: int,
        batches: np.ndarray | None,
        seed: int | None,
        anchors: int | None = None,
        pairs: int | None = None,
        of: str = "x",
        read: Callable[[Any], torch.Tensor] | None = None,
        by_draw: bool = False,
    ):
        self.read, self.by_draw = read, by_draw
        self.of, self.n_features = of, len(model.setup.features[of])
        self.model, self.design, self.n, self.pairs, self.seed = model, design, n, pairs, settings.fresh_seed(seed)
        rng = np.random.default_rng(self.seed)
        self.n_batches = 1 if batches is None else len(batches)
        self.per_pool = _draws_a_pool(design, n, self.n_batches)
        pools = design.pools
        if anchors is not None:
            pools = [rng.choice(pool, anchors, replace=False) if len(pool) > anchors else pool for pool in pools]
        self.cells = np.concatenate([rng.choice(pool, self.per_pool) for pool in pools])
        unique, self.rows = np.unique(self.cells, return_inverse=True)
        self.data = model.read(adata).minified(unique, posterior_parameters(model, adata, unique))  # each cell is encoded once
        self.batches = None if batches is None else np.tile(np.resize(batches, self.per_pool), len(pools))
        self.mixture = np.random.default_rng([self.seed, 1])
        self.whole: np.ndarray | None = None
        self.z = self._drawn()
        self.weighted = anchors is not None
        self.kept = np.arange(len(self.cells)) if anchors is None else self._resampled(adata, pools)

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
    def _drawn(self) -> Any:
        """A draw of the latents of each of the cells, (1, cells, ...); of those that all share there is one."""
        module: Any = self.model.module
        with settings.private_seed(self.seed):
            parts = [draw(module.posterior(c.to(self.model.device)), 1) for c in Loader(self.data, self.rows, CELLS_AT_ONCE)]
        each: dict[str, list[torch.Tensor]] = {name: [getattr(z, name) for z in parts] for name in parts[0]._fields}
        return parts[0]._make(values[0] if name in module.shared() else torch.cat(values, 1) for name, values in each.items())

    def _latents(self, here: slice) -> Any:
        shared = self.model.module.shared()  # type: ignore[operator]
        return self.z._make(v if name in shared else v[:, here] for name, v in self.z._asdict().items())

    @torch.inference_mode()
    def _decode(self, features: np.ndarray, work: settings.Task) -> np.ndarray:
        out = np.empty((len(features), len(self.cells)), np.float32, order="F" if self.by_draw else "C")
        some = None if len(features) == self.n_features else features
        with settings.private_seed(self.seed):  # every tile sees the same draws
            start = 0
            for cells in Loader(self.data, self.rows, rows_at_once(len(features))):
                here = slice(start, start + len(cells))
                view: dict[str, Any] = {} if self.batches is None else {"batch": torch.from_numpy(self.batches[here])}
                z, there = self._latents(here), cells.to(self.model.device)
                decode_at(self.model, z, there, [view], genes=some, of=self.of, read=self.read, out=out[:, here].T[None])
                start = here.stop
                work.step(len(cells))
        return out

    @torch.inference_mode()
    def _resampled(self, adata: AnnData | None, pools: list[np.ndarray]) -> np.ndarray:
        """For every draw the number of one to take in its place, chosen in its pool, and decoded in its batch, by weight."""
        rng, kept = np.random.default_rng([self.seed, 2]), []
        for i, (pool, z) in enumerate(zip(pools, self.z.z[0].split(self.per_pool), strict=True)):
            weights = importance_weights(self.model, adata, pool, z, seed=self.seed)
            chosen = np.empty(self.per_pool, np.int64)
            for b in range(self.n_batches):
                here = slice(b, None, self.n_batches)
                candidates = np.arange(self.per_pool)[here]
                chosen[here] = rng.choice(candidates, len(candidates), p=tempered(weights[here]))
            kept.append(i * self.per_pool + chosen)
        return np.concatenate(kept)

    def sides(self, pools1: tuple[int, ...], pools2: tuple[int, ...]) -> tuple[Columns, Columns]:
        """Columns of the decoded draws for each side, pair by pair; several pools are mixed in proportion to their cells."""
        if self.pairs is None and not self.weighted and max(len(pools1), len(pools2)) == 1 and self.n <= self.per_pool:
            return self._next_to_each_other(*pools1), self._next_to_each_other(*pools2)
        columns1, columns2 = self._columns(pools1), self._columns(pools2)
        if self.pairs is None:
            return columns1, columns2
        first = self.mixture.integers(self.n, size=self.pairs)
        second = first % self.n_batches + self.n_batches * self.mixture.integers(self.n // self.n_batches, size=self.pairs)
        return columns1[first], columns2[second]

    def _next_to_each_other(self, pool: int) -> slice:
        return slice(pool * self.per_pool, pool * self.per_pool + self.n)

    def _columns(self, pools: tuple[int, ...]) -> np.ndarray:
        at = np.arange(self.n) % self.per_pool
        sizes = np.array([len(self.design.pools[p]) for p in pools], float)
        return self.kept[self.mixture.choice(pools, self.n, p=sizes / sizes.sum()) * self.per_pool + at]


def _draws_a_pool(design: Design, n: int, n_batches: int) -> int:
    """As many as a side has; where replicates are pools of their own, a side's draws are shared out among them.

    A multiple of the number of batches, so that draws at one position are decoded in one batch.
    """
    shares = max((len(c.pools1) for c in design.comparisons if c.replicates), default=1)
    return -(-n // (shares * n_batches)) * n_batches


def without_outliers(model: Model, adata: AnnData | None, design: Design) -> Design:
    """Each pool without the tenth of its cells that lies farthest from its centre; small pools are left whole."""
    from sklearn.covariance import EllipticEnvelope  # takes long

    pools = []
    for pool in design.pools:
        z = np.asarray(latent_representation(model, adata, pool))
        enough = len(pool) > 5 * z.shape[1]  # a covariance needs cells
        pools.append(pool[EllipticEnvelope(random_state=0).fit_predict(z) == 1] if enough else pool)
    return design._replace(pools=pools)


class RawSums:
    """Sums over the cells of each pool, from one pass over the raw counts; where these are gone, over those that the model expects."""

    @torch.inference_mode()
    def __init__(self, model: Model, adata: AnnData | None, design: Design, of: str = "x"):
        data, pools = model.read(adata), design.pools
        module: Any = model.module
        n_features = len(model.setup.features[of])
        self.counts, self.present, self.shares, self.n = (np.zeros((len(pools), n_features)) for _ in range(4))
        self.gone = isinstance(data[of], Gone)
        everywhere = type(module).measured_in is VAE.measured_in
        for k, pool in enumerate(pools):
            if isinstance(data[of], Counts) and everywhere and not self.gone:
                self._add(k, data[of], pool)
                self.n[k] = len(pool)
                continue
            for batch in Loader(data, pool, rows_at_once(n_features) if self.gone else 4096):
                if self.gone:
                    expected = decode(model, batch.to(model.device), [{}], None, "latent", of=of)
                    self.counts[k] += expected.double().sum(0).cpu().numpy()
                    self.n[k] += len(batch)
                    continue
                x = getattr(batch, of)
                self._add(k, x if isinstance(x, Counts) else Counts.of(x.numpy()), np.arange(len(batch)))
                measured = module.measured_in(batch, of)
                self.n[k] += len(batch) if measured is None else measured.double().sum(0).numpy()

    def _add(self, k: int, x: Counts, rows: np.ndarray) -> None:
        """Some rows of the counts, which are of pool k."""
        share = 1 / x.size[rows].double().clamp_min(1e-12)
        if compiled(x.val):
            found = np.zeros((x.n_vars, 3))
            loop("sparse", "sums")(*map(array, (x.crow, x.col, x.val)), rows, array(share[:, 0]), found)
            each = found.T
        else:
            x = x.take(torch.from_numpy(rows))
            each = np.stack([np.bincount(x.col, weights, x.n_vars) for weights in (x.val, x.scaled(share).val, None)])
        for sums, more in zip((self.counts, self.shares, self.present), each, strict=True):
            sums[k] += more

    def mean(self, pools: tuple[int, ...]) -> np.ndarray:
        """Mean count of each feature."""
        return self._over(self.counts, pools)

    def columns(self, comparison: Comparison) -> dict[str, np.ndarray]:
        """Mean count, share of cells with a count, and mean count a 10,000, on each side; nothing where counts are gone."""
        out: dict[str, np.ndarray] = {}
        if self.gone:
            return out
        for name, sums, unit in (
            ("raw_mean", self.counts, 1),
            ("non_zeros_proportion", self.present, 1),
            ("raw_normalized_mean", self.shares, 1e4),
        ):
            for side, pools in (("1", comparison.pools1), ("2", comparison.pools2)):
                out[name + side] = self._over(sums, pools) * unit
        return out

    def _over(self, sums: np.ndarray, pools: tuple[int, ...]) -> np.ndarray:
        return sums[list(pools)].sum(0) / np.maximum(self.n[list(pools)].sum(0), 1)
