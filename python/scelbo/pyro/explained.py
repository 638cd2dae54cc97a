"""Likelihoods of sparse counts as Pyro's distributions."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from scelbo.data import Counts


class Explained(TorchDistribution):
    """A likelihood of counts as a distribution over cells, for :func:`explains`; a draw is dense."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own)
    support = constraints.real_vector

    def __init__(self, likelihood: Any, x: Counts):
        self.likelihood = likelihood
        super().__init__(torch.Size([len(x)]), torch.Size([x.n_vars]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Explained:
        return self  # it has a row for each cell of the plate already

    def log_prob(self, value: Counts) -> Tensor:
        return self.likelihood.log_prob(value)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (torch's own)
        return self.likelihood.sample()


def explains(name: str, likelihood: Any, x: Counts) -> Any:
    """The statement x ~ likelihood for a minibatch of sparse counts, inside the plate over cells.

    Parameters
    ----------
    name
        Of the site: of a field of the minibatch.
    likelihood
        One of :mod:`scelbo.likelihoods`.
    x
        The counts.
    """
    return pyro.sample(name, Explained(likelihood, x), obs=x)
