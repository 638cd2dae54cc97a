"""Which cells make up which minibatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from scelbo.data.columns import Columns
from scelbo.data.disk import mixed, shuffled_blocks, together
from scelbo.data.fields import Batch
from scelbo.errors import ArgumentError


def chunks(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut ``order`` into as few minibatches of at most ``batch_size`` as it takes, all of one size, give or take a cell.

    A leftover of a few cells would be a step like any other: batch norm of two cells is noise, and one has no variance at all.
    """
    return np.array_split(order, -(-len(order) // batch_size)) if len(order) else []


class Loader:
    """Minibatches of the cells ``index``: in that order, or newly shuffled by ``rng`` at every pass.

    Parameters
    ----------
    columns
        The data set.
    index
        (cells,) which cells; or several such streams, of which each minibatch has as many cells: the shorter ones go round until the
        longest ends.
    batch_size
        Cells of a stream in a minibatch.
    rng
        Shuffles at every pass; None keeps the order.
    beside
        Gives, for each pass, further cells that go along: as many a minibatch as it has itself, over and over.
    part
        (which, of how many): the part of each minibatch that this process takes, of several with the same ``rng``. Together they have every
        cell once, whatever their number; a block of neighbours on disk goes to the same one.
    """

    def __init__(
        self,
        columns: Columns,
        index: np.ndarray | Sequence[np.ndarray],
        batch_size: int,
        rng: np.random.Generator | None = None,
        beside: Callable[[np.random.Generator], np.ndarray] | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        if not (isinstance(batch_size, int | np.integer) and batch_size > 0):
            raise ArgumentError(f"batch_size={batch_size!r} is not allowed: it must be a whole number above zero.")
        self.columns, self.batch_size, self.rng, self.beside = columns, int(batch_size), rng, beside
        self.streams = [np.asarray(index)] if isinstance(index, np.ndarray) else [np.asarray(i) for i in index if len(i)]
        self.longest, self.part = max(map(len, self.streams), default=0), part
        self.several = not isinstance(index, np.ndarray) and len(index) == len(self.streams) > 1
        smallest = self.longest // max(1, len(self))
        if self.longest and smallest < part[1]:
            raise ArgumentError(
                f"Minibatches of {smallest} cells cannot be shared by {part[1]} processes.", "Raise batch_size, or take fewer processes."
            )

    def __len__(self) -> int:
        return max((len(chunks(stream, self.batch_size)) for stream in self.streams), default=0)

    def __iter__(self) -> Iterator[Batch]:
        whole = list(zip(*(self._minibatches(stream) for stream in self.streams), strict=True))
        each = [[self._own(index) for index in parts] for parts in whole]
        own = [np.concatenate(parts) for parts in each]
        along: list[np.ndarray] = []
        if self.beside and self.rng:
            along = [self._own(index) for index in chunks(np.resize(self.beside(self.rng), self.longest), self.batch_size)]
        loaded = self.columns.each([index for pair in zip(own, along, strict=True) for index in pair] if along else own)
        for parts, mine, cells in zip(whole, each, loaded, strict=False):
            if along:
                cells.beside = next(loaded)
            if self.part[1] > 1:
                cells.share = len(cells) * self.part[1] / sum(map(len, parts))
            if self.several:
                cells.spans = tuple(map(len, mine))
            yield cells

    def _own(self, index: np.ndarray) -> np.ndarray:
        """What this process takes of a minibatch: those of a block of the file stay together, and blocks go anywhere."""
        which, of = self.part
        if of == 1:
            return index
        scattered = index // max(1, self.columns.block) * 2_654_435_761 % 2**32  # Knuth's multiplicative hash
        return np.array_split(index[np.argsort(scattered, kind="stable")], of)[which]

    def _minibatches(self, stream: np.ndarray) -> list[np.ndarray]:
        """The stream's cells, over and over, as many as the longest has.

        Where not all of them can be read from disk at once, blocks of neighbours are shuffled first, and then the cells of the minibatches
        that are read together: far faster, and as good as any order (docs/disk.md has the figures).
        """
        rounds, rng, data = -(-self.longest // max(1, len(stream))), self.rng, self.columns
        if rng is None or not self.longest:
            return chunks(np.resize(stream, self.longest), self.batch_size)
        if not 0 < data.at_once < len(stream):
            return chunks(np.concatenate([rng.permutation(stream) for _ in range(rounds)])[: self.longest], self.batch_size)
        order = np.concatenate([shuffled_blocks(stream, data.block, rng) for _ in range(rounds)])[: self.longest]
        return [part for group in together(chunks(order, self.batch_size), data.at_once) for part in mixed(group, rng)]


def split(
    n_obs: int, train_size: float | None, validation_size: float | None, shuffle: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells for training, validation and test; what neither size claims is the test set.

    ``train_size=None`` means 0.9. At least two cells train.
    """
    train = 0.9 if train_size is None else train_size
    validation = 1 - train if validation_size is None else validation_size
    for name, value in (("train_size", train), ("validation_size", validation)):
        if not 0 <= value <= 1 or (name == "train_size" and value == 0):
            raise ArgumentError(f"{name}={value!r} is not allowed: it is a share of the cells, above 0 and up to 1.")
    if train + validation > 1 + 1e-9:
        raise ArgumentError(f"train_size={train} and validation_size={validation} claim more than all cells.")
    n_train = int(np.ceil(train * n_obs - 1e-9))
    n_validation = min(n_obs - n_train, int(np.floor(validation * n_obs + 1e-9)))
    if n_train < 2:
        raise ArgumentError(
            f"{n_train} of {n_obs} cells would train the model: at least two are needed.", "Raise train_size, or give more cells."
        )
    order = rng.permutation(n_obs) if shuffle else np.arange(n_obs)
    return np.split(order, [n_train, n_train + n_validation])  # type: ignore[return-value]


def at_most(index: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``index``, or ``n`` of it chosen at random, in order."""
    return index if len(index) <= n else np.sort(rng.choice(index, n, replace=False))


def index_of(n_obs: int, indices: Any) -> np.ndarray:
    """Row numbers from None (all), a boolean mask, or row numbers (any order, repeats allowed)."""
    if indices is None:
        return np.arange(n_obs)
    index = np.asarray(indices)
    if index.dtype == bool:
        if len(index) != n_obs:
            raise ArgumentError(f"indices is a mask of length {len(index)}, and there are {n_obs} cells.")
        return np.flatnonzero(index)
    if index.size and index.dtype.kind not in "iu" and not (index.dtype.kind == "f" and (index == np.floor(index)).all()):
        raise ArgumentError(f"indices={indices!r} is not allowed: they must be row numbers or a mask.", "None takes all cells.")
    index = np.atleast_1d(index).astype(np.int64)
    if len(index) and (index.min() < -n_obs or index.max() >= n_obs):
        raise ArgumentError(f"indices reach from {index.min()} to {index.max()}, and there are {n_obs} cells.")
    return np.where(index < 0, index + n_obs, index)
