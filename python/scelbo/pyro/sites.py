"""What is known of the latents of a Pyro model before they are drawn, and free normals in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pyro import distributions as dist
from pyro import poutine
from pyro.infer.autoguide.initialization import InitMessenger, init_to_median
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import biject_to, constraints, kl_divergence

from scelbo import settings
from scelbo.nn import inverse_softplus

CELLS = "cells"
"""The name of the plate over cells."""
START_SD = 0.1
"""Of a free normal, where its site is unconstrained."""


class Site(NamedTuple):
    """A latent of a Pyro model.

    Attributes
    ----------
    frames
        The plates that it is in.
    event_dim
        Axes of one draw.
    transform
        From the reals to its support.
    value
        Near the median of its prior.
    """

    frames: tuple[Any, ...]
    event_dim: int
    transform: Any
    value: Tensor

    @property
    def own(self) -> Any:
        """The plate over cells, if it is in it."""
        return next((frame for frame in self.frames if frame.name == CELLS), None)

    @property
    def axis(self) -> int:
        """Where the cells are in its values."""
        return int(self.own.dim) - self.event_dim

    @property
    def real(self) -> bool:
        """Whether its support are the reals."""
        real = biject_to(constraints.real)
        return real in (self.transform, getattr(self.transform, "base_transform", None))


def drawn(trace: Any) -> dict[str, Any]:
    """The sites of a trace that are drawn, minibatches of plates left out."""
    return {name: site for name, site in trace.iter_stochastic_nodes() if not site_is_subsample(site)}


def found(model: Callable[[Any], Any], cells: Any) -> dict[str, Site]:
    """The latents of a model, by running it once."""
    with settings.private_seed(0), torch.no_grad(), poutine.block(), InitMessenger(init_to_median):
        latents = drawn(poutine.trace(model).get_trace(cells))
    frames = lambda site: tuple(frame for frame in site["cond_indep_stack"] if frame.vectorized)  # noqa: E731
    return {name: Site(frames(s), s["fn"].event_dim, biject_to(s["fn"].support), s["value"]) for name, s in latents.items()}


class Kind(NamedTuple):
    """What a site is: ``"latent"``, ``"deterministic"`` or ``"observed"``; and whether it is in the plate over cells."""

    drawn: str
    of_cells: bool


def kinds(model: Callable[[Any], Any], cells: Any) -> dict[str, Kind]:
    """All sites of a model, by running it once."""
    with settings.private_seed(0), torch.no_grad(), poutine.block():
        nodes = poutine.trace(model).get_trace(cells).nodes.items()
    sites = {name: site for name, site in nodes if site["type"] == "sample" and not site_is_subsample(site)}
    what = lambda s: "deterministic" if s["infer"].get("_deterministic") else "observed" if s["is_observed"] else "latent"  # noqa: E731
    return {name: Kind(what(s), any(frame.name == CELLS for frame in s["cond_indep_stack"])) for name, s in sites.items()}


def divergence(q: Any, site: Any, exact: bool) -> Tensor:
    """KL(q || p) in closed form, or its estimate at the draw."""
    with contextlib.suppress(NotImplementedError):
        if exact:
            return kl_divergence(q, site["fn"])
    return q.log_prob(site["value"]) - site["fn"].log_prob(site["value"])


class FreeNormals(nn.Module):
    """A normal for each number of some latents, on the reals or mapped to the latent's support."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.raw_sd = nn.ParameterDict(), nn.ParameterDict()

    def __contains__(self, name: str) -> bool:
        return name in self.loc

    def start(self, name: str, site: Site, n_cells: int) -> None:
        """At the median of the prior; of a latent of the cells as many as there are."""
        value = site.transform.inv(site.value).detach()
        if site.own is not None:
            value = value.narrow(site.axis, 0, 1).repeat_interleave(n_cells, site.axis)
        self._put(name, value.clone())

    def _put(self, name: str, loc: Tensor) -> None:
        self.loc[name] = nn.Parameter(loc)
        self.raw_sd[name] = nn.Parameter(inverse_softplus(torch.full_like(loc, START_SD)))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """They are as many as the file has: a model that is loaded has seen no data."""
        for key in [key for key in state_dict if key.startswith(f"{prefix}loc.")]:
            if (name := key.removeprefix(f"{prefix}loc.")) not in self:
                self._put(name, torch.empty_like(state_dict[key]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def normal(self, name: str) -> Any:
        """On the reals, of all cells."""
        return dist.Normal(self.loc[name], F.softplus(self.raw_sd[name]), validate_args=False)

    def forward(self, name: str, site: Site, cells: Any) -> Any:
        q = self.normal(name)
        if site.own is not None:
            q = dist.Normal(*(v.index_select(site.axis, cells.index) for v in (q.loc, q.scale)), validate_args=False)
        return q if site.real else dist.TransformedDistribution(q, [site.transform], validate_args=False)
