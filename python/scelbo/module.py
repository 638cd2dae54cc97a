"""The contract between a model's maths and everything else: q(z | x), p(x | z), and what they cost."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from scelbo.data import Batch, Columns, Counts
from scelbo.nn import Known


@dataclass(frozen=True)
class Loss:
    """Named parts, one value a cell; the training plan anneals ``kl`` and adds the rest as it is.

    Parameters
    ----------
    nll
        Field explained -> minus its log likelihood, (cells,), or (samples, cells) for several draws of the latents.
    kl
        Latent -> KL divergence to its prior, (cells,); multiplied by the KL weight.
    kl_fixed
        As ``kl``, never annealed.
    kl_global
        Latent that all cells share -> KL divergence to its prior (of a single value: minus its log prior density), a scalar; it counts
        once for all cells that train.
    penalty
        Name -> scalar; the plan may give it a weight.
    figures
        Name -> a value for each cell, NaN where it is not known: the mean of the others is shown in the history, never minimised. (A
        penalty of the same name is then not shown beside it.)
    """

    nll: dict[str, Float[Tensor, "*s cells"]]
    kl: dict[str, Float[Tensor, " cells"]] = field(default_factory=dict)
    kl_fixed: dict[str, Float[Tensor, " cells"]] = field(default_factory=dict)
    kl_global: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    penalty: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    figures: dict[str, Float[Tensor, " some"]] = field(default_factory=dict)

    def per_cell(self, kl_weight: float | Tensor = 1.0) -> Float[Tensor, " cells"]:
        """Reconstruction + weight * KL, without penalties."""
        parts = [*self.nll.values(), *(kl_weight * k for k in self.kl.values()), *self.kl_fixed.values()]
        return torch.stack(parts).sum(0)

    def total(
        self, kl_weight: float | Tensor = 1.0, n_cells: int = 1, weights: Mapping[str, float | Tensor] | None = None
    ) -> Float[Tensor, ""]:
        """What is minimised: the mean over cells, this cell's share (of ``n_cells``) of what all have in common, weighted penalties."""
        loss = self.per_cell(kl_weight).mean()
        for kl in self.kl_global.values():
            loss = loss + kl / n_cells
        for name, value in self.penalty.items():
            loss = loss + (weights or {}).get(name, 1.0) * value
        return loss


class Module(nn.Module):
    """Anything that trains: ``forward(cells)`` gives its :class:`Loss`."""

    def forward(self, cells: Batch) -> Loss:
        raise TypeError(f"{type(self).__name__} must say its forward(cells) -> Loss")

    def observe(self, data: Columns) -> None:
        """Take from the data what never learns (a library prior); called when a model is made and at transfer."""


class VAE(Module):
    """A model with amortised latents: write ``inference`` and ``generative``; ``prior`` and ``loss`` have defaults."""

    def inference(self, cells: Any) -> Any:
        """q(latents | cells): a NamedTuple of distributions."""
        raise TypeError(f"{type(self).__name__} must say its inference(cells)")

    def posterior(self, cells: Any) -> Any:
        """q(latents | cells) as questions take it: noted in minified cells (``Model.minify``), else by ``inference``."""
        if cells.posterior is None:
            return self.inference(cells)
        latents, kinds = typing.get_type_hints(self.inference)["return"], {**self.shared(), **self.noise(len(cells))}
        for name, values in cells.posterior.items():
            loc, *scale = values.chunk(2, -1) if values.shape[-1] > 1 else (values,)
            kinds[name] = Normal(loc, scale[0], validate_args=False) if scale else Known(loc)
        return latents(**kinds)

    def encode_z(self, cells: Any) -> Normal:
        """q(z | cells) alone, for models whose ``inference`` finds more."""
        return self.inference(cells).z

    def place(self, cells: Any) -> Normal:
        """q(z | cells) as questions take it: noted in minified cells, else by ``encode_z``."""
        return self.encode_z(cells) if cells.posterior is None else self.posterior(cells).z

    def posterior_of_scale(self, cells: Any) -> Any:
        """q(latents | cells) as far as :meth:`scale_of` reads them."""
        return self.posterior(cells)

    def generative(self, z: Any, cells: Any) -> Any:
        """p(data | latents, covariates): a NamedTuple of likelihoods, named as the fields that they explain."""
        raise TypeError(f"{type(self).__name__} must say its generative(z, cells)")

    def generative_of(self, features: Tensor | slice, z: Any, cells: Any, of: str = "x") -> Any:
        """p(these features of a field | latents, covariates), its likelihood, for models that need not decode all else; else None."""
        return None

    @property
    def encoded(self) -> list[str]:
        """Modalities that have an encoder each."""
        return []

    def by_modality(self, q: Any, modality: str) -> Any:
        """q(z | one of them alone); ``"joint"``: given all that was measured."""
        return q.z

    def shared(self) -> dict[str, Any]:
        """Latents that all cells have in common (topics, which genes are zero-inflated) -> their q, which ``inference`` repeats."""
        return {}

    def likelihood_of(self, of: str, z: Any, cells: Any) -> Any:
        """The likelihood of one field, for models that need not decode the others, or know better what was not measured."""
        return getattr(self.generative(z, cells), of)

    def scale_of(self, of: str, z: Any, cells: Any) -> Tensor:
        """The scale of that likelihood, for models that need not make the rest of it."""
        return self.likelihood_of(of, z, cells).scale

    def measured_in(self, cells: Any, of: str = "x") -> Float[Tensor, "cells features"] | None:
        """1 where a feature of a field was measured in a cell, else 0; None where all were."""
        return None

    def noise(self, n: int) -> dict[str, Normal]:
        """Standard normals that ``generative`` turns into draws of what it finds uncertain itself, for n cells; ``inference`` adds them.

        So a latent whose q depends on others (the background of a protein, given z) is decoded like anything else, also as if the cells
        had other covariates. Models add its KL to their loss.
        """
        return {}

    def embed(self, z: Tensor) -> Tensor:
        """From the normal z to the latent space that users see (the same, unless a model says otherwise)."""
        return z

    def prior(self, q: Any, cells: Any) -> Any:
        """p(latents): a NamedTuple like q. Standard normal by default; None for what is known, for noise, and for what is shared.

        (Models that share latents add their prior.)
        """
        without = {*self.shared(), *self.noise(1)}
        return type(q)(**{name: None if name in without or isinstance(d, Known) else standard(d) for name, d in q._asdict().items()})

    def of_cells(self, q: Any, cells: Any) -> dict[str, tuple[Any, Any]]:
        """Latent that each cell has of its own, and that is not known -> (its q, its prior)."""
        prior, shared = self.prior(q, cells)._asdict(), self.shared()
        return {name: (d, prior[name]) for name, d in q._asdict().items() if prior[name] is not None and name not in shared}

    def kl_by_dimension(self, q: Any, cells: Any) -> dict[str, Float[Tensor, "cells dimensions"]]:
        """KL(q || prior) of every dimension of every latent of the cells."""
        return {name: kl_divergence(*pair) for name, pair in self.of_cells(q, cells).items()}

    def kl(self, q: Any, cells: Any) -> dict[str, Float[Tensor, " cells"]]:
        """KL(q || prior) of every latent, summed over its dimensions."""
        return {name: kl.sum(-1) for name, kl in self.kl_by_dimension(q, cells).items()}

    def kl_global(self, q: Any, cells: Any) -> dict[str, Float[Tensor, ""]]:
        """KL(q || prior) of every latent that all cells share."""
        shared = self.shared()
        prior = self.prior(q, cells)._asdict() if shared else {}
        return {name: kl_divergence(getattr(q, name), prior[name]).sum() for name in shared}

    def log_prior(self, q: Any, z: Any, cells: Any) -> dict[str, Float[Tensor, "*s cells"]]:
        """log p of every drawn latent of the cells."""
        return {name: prior.log_prob(getattr(z, name)).sum(-1) for name, (_, prior) in self.of_cells(q, cells).items()}

    def log_ratio(self, q: Any, z: Any, cells: Any) -> Float[Tensor, "*s cells"]:
        """log p(z) - log q(z | x) of drawn latents: what importance sampling adds to log p(x | z)."""
        priors = self.log_prior(q, z, cells)
        return torch.stack([log_p - getattr(q, name).log_prob(getattr(z, name)).sum(-1) for name, log_p in priors.items()]).sum(0)

    def explained(self, cells: Any, p: Any) -> dict[str, Float[Tensor, "*s cells"]]:
        """log p(data | latents) of every field that the model explains."""
        return {name: d.log_prob(getattr(cells, name)) for name, d in p._asdict().items()}

    def loss(self, cells: Any, q: Any, z: Any, p: Any) -> Loss:
        """Minus the evidence lower bound, term by term, at the latents z that were drawn from q."""
        return Loss(
            {name: -value for name, value in self.explained(cells, p).items()}, self.kl(q, cells), kl_global=self.kl_global(q, cells)
        )

    def forward(self, cells: Batch) -> Loss:
        q = self.inference(cells)
        z = draw(q)
        return self.loss(cells, q, z, self.generative(z, cells))


class CountsVAE(VAE):
    """A VAE whose encoders read counts; for a feature that a query did not measure they read the mean of the training cells.

    Parameters
    ----------
    n_vars
        Features of the first matrix, x.
    **others
        Further matrices of counts -> their features.
    """

    def __init__(self, n_vars: int, **others: int):
        super().__init__()
        self.input_mean: Tensor
        self.register_buffer("input_mean", torch.zeros(n_vars))
        for other, n in others.items():
            self.register_buffer(_mean_of(other), torch.zeros(n))

    def seen_as(self, x: Counts) -> Counts:
        """Counts as the encoders read them (0 stays 0)."""
        return x

    def seen(self, cells: Any) -> Counts:
        """What the encoders read."""
        return self.seen_of(cells, "x")

    def seen_of(self, cells: Any, of: str) -> Counts:
        """The same, of one of several matrices."""
        return self.seen_as(getattr(cells, of)).filled(getattr(self, _mean_of(of)))

    def observe(self, data: Columns) -> None:
        for name in [name for name, _ in self.named_buffers(recurse=False) if name.startswith("input_mean")]:
            if not getattr(self, name).any():  # a query's model keeps its reference's
                x = data[name.removeprefix("input_mean").removeprefix("_") or "x"]
                there = (x.size > 0).float().mean()  # cells may lack a matrix
                setattr(self, name, x.column_means(self.seen_as) / there.clamp_min(1e-12))


def _mean_of(field: str) -> str:
    return "input_mean" if field == "x" else f"input_mean_{field}"


def standard(d: Normal) -> Normal:
    """The standard normal of the same shape."""
    return Normal(torch.zeros_like(d.loc), torch.ones_like(d.scale), validate_args=False)


def draw(q: Any, n: int | None = None, mean: bool = False) -> Any:
    """One draw of every latent, or ``n`` along a new first axis, or their means."""
    shape = () if n is None else (n,)
    return type(q)._make(d.mean if mean else d.rsample(shape) for d in q)
