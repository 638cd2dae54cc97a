"""Cells of several data sets in one minibatch, each with a likelihood of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scelbo.data import Batch, Counts
from scelbo.likelihoods.counts import Likelihood
from scelbo.likelihoods.sparse import Mean


class Part(NamedTuple):
    """Some rows of a minibatch.

    Parameters
    ----------
    rows
        Which.
    measured
        Which genes were measured in these cells; None for all.
    of
        The likelihood of some genes, whose proportions sum to one over those that were measured.
    """

    rows: Int[Tensor, " some"] | slice
    measured: Int[Tensor, " seen"] | None
    of: Callable[[Tensor | slice], Likelihood]


@dataclass(frozen=True)
class Parts:
    """What a count likelihood answers, put together from those of the parts: genes that were not measured are decoded only if asked for."""

    parts: Sequence[Part]

    def log_prob(self, x: Counts) -> Float[Tensor, "*s cells"]:
        """Log probability of each cell's counts, summed over the genes that were measured in it."""
        found = []
        for part in self.parts:
            here = x.take(part.rows)
            here.measured = part.measured
            found.append(part.of(slice(None) if part.measured is None else part.measured).log_prob(here.kept()))
        return self._together(found, -1)

    @cached_property
    def whole(self) -> list[Likelihood]:
        """Each part's, of all genes."""
        return [part.of(slice(None)) for part in self.parts]

    @property
    def rate(self) -> Mean:
        """Log proportions as ``h``, with library sizes."""
        log_l = torch.broadcast_tensors(*(p.rate.log_l[..., :1, :] for p in self.whole))[0].shape[:-2]
        sizes = [p.rate.log_l.expand(*log_l, *p.rate.log_l.shape[-2:]) for p in self.whole]
        return Mean(self._of(lambda p: p.scale.log()), self._together(sizes, -2))

    @property
    def scale(self) -> Float[Tensor, "*s cells genes"]:
        """Expected proportions among the genes that were measured in the cell."""
        return self._of(lambda p: p.scale)

    def relative(self, genes: Int[Tensor, " some"], among: Int[Tensor, " others"]) -> Float[Tensor, "*s cells some"]:
        """Expected proportions of some genes in units of what others have together; no further ones are decoded."""
        h = [part.of(torch.cat([genes, among])).rate.h.split([len(genes), len(among)], -1) for part in self.parts]
        return self._together([(some - others.logsumexp(-1, keepdim=True)).exp() for some, others in h], -2)

    @property
    def mean(self) -> Float[Tensor, "*s cells genes"]:
        """Expected counts, also of genes that were not measured."""
        return self._of(lambda p: p.mean)

    @property
    def variance(self) -> Float[Tensor, "*s cells genes"]:
        """Variance of the counts."""
        return self._of(lambda p: p.variance)  # type: ignore[attr-defined]

    @property
    def parameters(self) -> dict[str, Float[Tensor, "*s cells genes"]]:
        """As of each part: where one has none, its inverse dispersion is infinite, its logit of a structural zero minus infinity."""
        absent, names = {"dispersions": torch.inf, "dropout": -torch.inf}, dict.fromkeys(n for p in self.whole for n in p.parameters)
        fill = lambda p, name: p.parameters.get(name, torch.tensor(absent.get(name, 0.0))).expand_as(p.rate.h)  # noqa: E731
        return {name: self._of(partial(fill, name=name)) for name in names}

    def denoised(self, size: float) -> Float[Tensor, "*s cells genes"]:
        """Means at a library of this size, drawn without counting noise."""
        return self._of(lambda p: p.denoised(size))

    def sample(self) -> Float[Tensor, "*s cells genes"]:
        """One draw of the counts from torch's current random state."""
        return self._of(lambda p: p.sample())

    def _of(self, ask: Callable[[Likelihood], Tensor]) -> Tensor:
        return self._together([ask(p) for p in self.whole], -2)

    def _together(self, values: Sequence[Tensor], axis: int) -> Tensor:
        return together(values, [part.rows for part in self.parts], axis)


def apart(cells: Batch, origin: Int[Tensor, " batches"], n: int) -> list[Tensor | slice]:
    """Rows of each of n data sets, ``origin`` of each batch: spans, in training, so that nobody waits for a device to tell."""
    if cells.spans:
        return [slice(end - size, end) for size, end in zip(cells.spans, accumulate(cells.spans), strict=True)]
    of_cells = origin[cells.codes("batch")]
    return [(of_cells == d).nonzero()[:, 0] for d in range(n)]


def together(values: Sequence[Tensor], rows: Sequence[Tensor | slice], axis: int) -> Tensor:
    """What was found of the parts of a minibatch, in its order: of rows by their numbers, or of spans that follow one another."""
    if len(values) == 1:
        return values[0]
    whole, numbers = torch.cat(list(values), axis), [r for r in rows if isinstance(r, Tensor)]
    return whole.index_select(axis, torch.cat(numbers).argsort()) if numbers else whole
