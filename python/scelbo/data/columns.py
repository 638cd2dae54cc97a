"""Columns: all cells of a data set as a model reads them. Minibatches are taken from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch

from scelbo.data.counts import Counts, there
from scelbo.data.disk import together
from scelbo.data.fields import Batch, _take, _to
from scelbo.data.matrix import DiskCounts
from scelbo.data.minified import Gone


class Columns:
    """One value a field: ``Counts``, codes, numbers, or None; ``take`` makes a minibatch.

    Parameters
    ----------
    cells_type
        The class of the minibatches.
    values
        Attribute -> the data of all cells.
    n_obs
        Number of cells.

    Attributes
    ----------
    at_once, block
        Of counts on disk how many cells are read at once, and how many neighbours in the file should be among them; 0 in memory.
    """

    device = torch.device("cpu")

    def __init__(self, cells_type: type[Batch], values: dict[str, Any], n_obs: int):
        self.cells_type, self.values, self.n_obs = cells_type, values, n_obs
        self.sums = self._sums()
        disk = [v for v in values.values() if isinstance(v, DiskCounts)]
        self.at_once, self.block = min((v.at_once for v in disk), default=0), max((v.block for v in disk), default=0)

    def __len__(self) -> int:
        return self.n_obs

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def _sums(self) -> list[float]:
        counted = [v.val.numpy() for v in self.values.values() if isinstance(v, Counts) and not isinstance(v, Gone)]
        return [float(values.sum(dtype=np.float64)) for values in counted]

    @property
    def intact(self) -> bool:
        """Whether the counts, whose memory is the user's matrix, are as they were read."""
        return self._sums() == self.sums

    def near(self, device: torch.device) -> Self:
        """On a GPU, where minibatches are then made, if they take at most half of its free memory; else as they are."""
        counts = [v for v in self.values.values() if isinstance(v, Counts)]
        needed = sum(part.nbytes for v in counts for part in (v.crow, v.col, v.val))
        if device.type != "cuda" or self.at_once or needed > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return self.on(device)

    def on(self, device: torch.device) -> Self:
        """On a device, where minibatches are then made."""
        out = copy(self)
        out.device, out.values = device, {name: _to(v, device) for name, v in self.values.items()}
        return out

    def take(self, index: np.ndarray) -> Batch:
        """The cells ``index`` (repeats allowed), in the order asked for."""
        rows = torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64))
        return self.cells_type(index=there(rows, self.device), **{k: _take(v, rows) for k, v in self.values.items()})

    def each(self, indices: Sequence[np.ndarray]) -> Iterator[Any]:
        """A minibatch for each of ``indices``; from disk the cells of many are read at once."""
        if not self.at_once:
            yield from map(self.take, indices)
            return
        for group in together(indices, self.at_once):
            cells, at = self.take(np.concatenate(group)), 0
            for index in group:
                yield cells.take(torch.arange(at, at := at + len(index)))

    def sums_by(self, field: str, covariate: str, n: int) -> torch.Tensor:
        """Sum of each feature of a field over the cells of each of ``n`` categories, (n, features)."""
        out = torch.zeros(n, self.values[field].n_vars, dtype=torch.float64)
        for cells in self.each(np.array_split(np.arange(len(self)), -(-len(self) // 4096))):
            x = getattr(cells, field)
            out.view(-1).index_add_(0, cells.codes(covariate)[x.row] * x.n_vars + x.col, x.val.double())
        return out.float()

    def minified(self, index: np.ndarray, posterior: dict[str, np.ndarray]) -> Columns:
        """The cells ``index`` with the parameters of their latents in place of their counts."""
        rows = torch.from_numpy(index)
        kept = {k: Gone() if isinstance(v, Counts | DiskCounts) else _take(v, rows) for k, v in self.values.items()}
        return Columns(self.cells_type, kept | {"posterior": {k: torch.from_numpy(v) for k, v in posterior.items()}}, len(index))
