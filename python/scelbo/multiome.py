r"""Genes and regions of a model that explains both: from a point of the latent space to their likelihoods.

What :class:`~scelbo.proteins.Proteins` is for antibody counts, :class:`Genes` is for RNA (as in scVI) and :class:`Regions` for open
chromatin (as in PeakVI).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from scelbo.data import Columns, Counts, Setup
from scelbo.likelihoods import Accessibility, Likelihood, Mean, ProteinMixture, of_counts
from scelbo.nn import (
    MLP,
    Borrowed,
    ConditionalLinear,
    Known,
    PerCategory,
    PointEncoder,
    Settled,
    affine,
    for_cells,
    inverse_softplus,
    per_feature,
)

FEWEST, MOST = 0.5, 0.9
"""Where a decoder starts: counts in all cells, at the least, and how often open, at most."""


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    own: Normal  # (cells, modalities, n_latent): by each modality alone; N(0, I), which says nothing, where the cell lacks it
    log_l: Known  # (cells, 1): log library size of the RNA
    depth: Known  # (cells, 1): logit of the factor l' of what is open
    has: Known  # (cells, 1): number of the set of modalities that were measured
    noise: Normal  # (cells, proteins), of the background


class Explained(NamedTuple):
    """What the model explains."""

    x: Likelihood
    atac: Accessibility | None = None
    protein: ProteinMixture | None = None


class Genes(nn.Module):
    r"""p(x | z, l, s): counts with mean :math:`l\,\mathrm{softmax} f(z, s)`, or with size factors :math:`l\,\mathrm{softplus} f(z, s)`.

    Parameters
    ----------
    setup
        Of the data: the field ``x``.
    n_latent, decoder, seen
        Of the decoder: its input, further arguments of :class:`~scelbo.nn.MLP`, the covariates s.
    likelihood, dispersion
        ``"zinb", "nb", "poisson"``; what the inverse dispersion depends on.
    reader
        Arguments of the network that the library size l is read with; None where it is observed, or given.
    """

    def __init__(
        self, setup: Setup, n_latent: int, decoder: dict[str, Any], seen: dict[str, Any], likelihood: str, dispersion: str,
        reader: dict[str, Any] | None,
    ):  # fmt: skip
        super().__init__()
        genes, n_hidden = len(setup.features["x"]), decoder["n_hidden"]
        self.likelihood_name, self.size_given = likelihood, setup.keys.get("size_factor_key") is not None
        self.l = None if reader is None or self.size_given else PointEncoder(genes, 1, **reader)
        self.decoder = MLP(n_latent, **decoder, **seen)
        self.rho = ConditionalLinear(n_hidden, genes)
        self.link = "softplus" if self.size_given else "softmax"
        self.borrowed = Borrowed(len(setup.categories["batch"]), genes, self.link)
        self.pi = ConditionalLinear(n_hidden, genes) if likelihood == "zinb" else None
        self.log_theta = per_feature(dispersion, genes, setup, n_hidden)
        self.typical: Tensor
        self.register_buffer("typical", torch.zeros(1, 1))  # mean log library size of cells that have RNA

    def take(self, data: Columns, has: Bool[Tensor, " cells"]) -> None:
        """Note the library sizes of cells that have RNA, and start from the mean counts of each gene."""
        n = int(has.sum())
        if not n:
            return
        size = data["x"].size[has]
        self.typical = size.log().mean(0, keepdim=True)
        sums = data["x"].column_means(lambda x: x) * len(has) + FEWEST
        share = sums / (data["size"][has] if self.size_given else size).sum()
        with torch.no_grad():  # else biases take hundreds of steps to learn what one look at the data says
            self.rho.bias.copy_(inverse_softplus(share) if self.size_given else share.log())  # type: ignore[union-attr]

    def log_library(self, x: Counts, cells: Any, t: Tensor | None) -> Tensor:
        """log l, (cells, 1): given, read from x, or observed; of a cell without RNA that of a typical one."""
        if self.size_given:
            return cells.size.log()
        there = cells.x.size > 0
        value = torch.where(there, cells.x.size, 1).log() if self.l is None else nn.functional.leaky_relu(self.l(x, cells, t))
        return torch.where(there, value, self.typical)

    def forward(self, z: Tensor, log_l: Tensor, cells: Any, lacks: Tensor | None = None) -> Likelihood:
        h = self.decoder(z, cells, cells.numbers)
        rate = Mean(self.borrowed(self.rho(h), cells, lacks), log_l, self.link)
        return of_counts(self.likelihood_name, rate, for_cells(self.log_theta, cells, h), self.pi(h) if self.pi else None)


class Regions(nn.Module):
    r"""p(x | z, l, s): whether each region was seen, :math:`\mathrm{Bernoulli}(\sigma(g(z, s))\, l\, r)`.

    Parameters
    ----------
    setup
        Of the data: the field ``atac``.
    n_latent, decoder, seen
        As of :class:`Genes`.
    reader
        Arguments of the network that the cell factor l is read with.
    factors
        Whether regions have factors r of their own.
    """

    def __init__(
        self, setup: Setup, n_latent: int, decoder: dict[str, Any], seen: dict[str, Any], reader: dict[str, Any], factors: bool
    ):  # fmt: skip
        super().__init__()
        regions = len(setup.features["atac"])
        self.depth = PointEncoder(regions, 1, **reader)
        self.decoder = MLP(n_latent, **decoder, **seen)
        self.y = ConditionalLinear(decoder["n_hidden"], regions)
        self.borrowed = Borrowed(len(setup.categories["batch"]), regions, "sigmoid")
        self.r = nn.ParameterDict({"all": nn.Parameter(torch.zeros(regions))}) if factors else None
        self.certain: Tensor
        self.register_buffer("certain", torch.full((1,), torch.inf), persistent=False)  # logit of a factor of one

    def take(self, data: Columns, has: Bool[Tensor, " cells"]) -> None:
        """Start from the share of the cells with open chromatin in which each region was seen, at factors of a half."""
        seen = data["atac"].column_means(lambda x: x.map(torch.ones_like)) * len(has) + FEWEST
        with torch.no_grad():
            self.y.bias.copy_((4 * seen / has.sum().clamp_min(1)).clamp(max=MOST).logit())  # type: ignore[union-attr]

    @property
    def factors(self) -> Tensor:
        """Logits of r, (regions,)."""
        return self.certain.expand(self.y.weight.shape[1]) if self.r is None else self.r["all"]

    def forward(
        self, z: Tensor, depth: Tensor, cells: Any, features: Tensor | slice = slice(None), lacks: Tensor | None = None
    ) -> Accessibility:
        """Of the ``features`` only; ``depth`` is the logit of l, which has no draws."""
        hidden = self.decoder(z, cells, cells.numbers)
        h = affine(hidden, self.y.weight[:, features], self.y.bias[features])  # type: ignore[index]
        h = self.borrowed(h, cells, lacks, features)
        return Accessibility(h, depth[0] if depth.dim() > 2 else depth, self.factors[features])


class Measured(Settled):
    """Which modalities cells have, which sets of them there are, and in which batches they were measured.

    Parameters
    ----------
    fields
        Of the modalities.
    n_batches
        Number of batches.
    """

    def __init__(self, fields: list[str], n_batches: int):
        super().__init__()
        self.fields = fields
        self.cells = PerCategory("batch", n_batches, len(fields), learns=False)  # how many have each modality
        self.cells.table.data.zero_()
        self.patterns: Tensor
        self.register_buffer("patterns", torch.zeros(2 ** len(fields) - 1, dtype=torch.bool))

    def forward(self, cells: Any) -> Bool[Tensor, "cells modalities"]:
        """Which were measured in each cell."""
        return self._above_zero([getattr(cells, field) for field in self.fields])

    def look(self) -> bool:
        return bool(self.patterns.sum() > 1)

    @property
    def several(self) -> bool:
        """Whether there is more than one such set."""
        return self.told()

    def _above_zero(self, values: list[Any]) -> Tensor:
        return torch.stack([(v.sum(1) if isinstance(v, Tensor) else v.size[:, 0]) > 0 for v in values], 1)

    def take(self, data: Columns) -> Bool[Tensor, "cells modalities"]:
        """Note what the data have."""
        has = self._above_zero([data[field] for field in self.fields])
        self.patterns[pattern(has)] = True
        for b in data["batch"].unique():
            self.cells.set_row(int(b), has[data["batch"] == b].sum(0).float())
        return has

    def stand_in(self, of: str, cells: Any) -> Any:
        """The cells, those of a batch in which no cell has a modality as if they were of the batch in which most cells have it.

        Nothing is known of what such a batch does to it.
        """
        known = self.cells.rows()[:, self.fields.index(of)]
        return cells.replace({"batch": torch.where(known[cells.batch] > 0, cells.batch, known.argmax())})


def lacking(sets: Float[Tensor, "*s cells 1"], i: int) -> Bool[Tensor, "*s cells 1"]:
    """Whether a cell that has the set of this number lacks modality i."""
    return (sets.long() + 1).bitwise_right_shift(i) % 2 == 0


def pattern(has: Bool[Tensor, "cells modalities"]) -> Int[Tensor, " cells"]:
    """The number of each cell's set of modalities, from 0."""
    return (has * 2 ** torch.arange(has.shape[1], device=has.device)).sum(1) - 1


def side_by_side(each: list[Normal], has: Bool[Tensor, "cells modalities"]) -> Normal:
    """What each modality says of z, (cells, modalities, n_latent): N(0, I), which says nothing, where a cell lacks it."""
    mean, sd = torch.stack([q.mean for q in each], 1), torch.stack([q.stddev for q in each], 1)
    there = has[..., None]
    return Normal(torch.where(there, mean, 0), torch.where(there, sd, 1), validate_args=False)


def alone(own: Normal, i: int) -> Normal:
    """What one of them says; not a number where it says nothing."""
    mean, sd = own.mean[:, i], own.stddev[:, i]
    lacks = torch.where(((mean == 0) & (sd == 1)).all(-1, keepdim=True), torch.nan, 0.0)
    return Normal(mean + lacks, sd + lacks, validate_args=False)


class Joint(nn.Module):
    r"""What several modalities say of a cell, in one: :math:`N(\sum_m w_m \mu_m, \sum_m w_m^2 v_m)`, the mean of their z.

    The weights w add up to one over the modalities that the cell has.

    Parameters
    ----------
    n_modalities, n_latent
        Sizes.
    weights
        ``"equal"``, ``"universal"`` (learnt), or ``"cell"``: read from what the modalities say.
    mixing
        ``"published"``: as above; ``"scvi-tools"``: the variance is :math:`\sum_m \sqrt{w_m} v_m`, and modalities are compared as if
        their standard deviations were the square roots of what they are.
    penalty
        What :meth:`apart` measures: ``"Jeffreys"``, ``"MMD"`` or ``"None"``.
    alone
        Share of the cells that are placed by one of their modalities alone while the module trains.
    """

    def __init__(self, n_modalities: int, n_latent: int, weights: str, mixing: str, penalty: str, alone: float = 0.0):
        super().__init__()
        self.published, self.penalty, self.alone = mixing == "published", penalty, alone
        self.w = nn.ParameterDict({"all": nn.Parameter(torch.ones(n_modalities))}) if weights == "universal" else None
        self.of_cell = nn.ModuleList(nn.Linear(2 * n_latent, 1) for _ in range(n_modalities)) if weights == "cell" else None

    def forward(self, own: Normal, has: Bool[Tensor, "cells modalities"]) -> Normal:
        """q(z | x), of q by each modality, (cells, modalities, n_latent)."""
        if self.training and self.alone:
            one = torch.rand(has.shape, device=has.device).where(has, -1).argmax(1, keepdim=True)
            chosen = torch.rand_like(own.mean[:, :1, 0]) < self.alone
            has = torch.where(chosen, torch.zeros_like(has).scatter(1, one, True), has)
        logits = torch.zeros_like(own.mean[..., 0]) if self.w is None else self.w["all"].expand(has.shape)
        if self.of_cell is not None:
            said = torch.cat([own.mean, own.stddev.log()], -1).unbind(1)
            logits = torch.cat([weigh(s) for weigh, s in zip(self.of_cell, said, strict=True)], 1)
        w = logits.masked_fill(~has, -torch.inf).softmax(1)[..., None]
        share = w**2 if self.published else w.clamp_min(torch.finfo(w.dtype).tiny).sqrt()
        return Normal((w * own.mean).sum(1), (share * own.variance).sum(1).sqrt(), validate_args=False)

    def apart(self, own: Normal, has: Bool[Tensor, "cells modalities"]) -> Float[Tensor, " cells"]:
        """How far each two modalities of a cell are apart."""
        total = torch.zeros_like(own.mean[:, 0, 0])
        sd = own.stddev if self.published else own.stddev.sqrt()
        each = [Normal(m, s, validate_args=False) for m, s in zip(own.mean.unbind(1), sd.unbind(1), strict=True)]
        for i, k in combinations(range(len(each)), 2):
            if self.penalty == "Jeffreys":
                value = (kl_divergence(each[i], each[k]) + kl_divergence(each[k], each[i])).sum(-1)
            else:
                value = (each[i].mean - each[k].mean).norm(dim=-1)
            total = total + torch.where(has[:, i] & has[:, k], value, 0)
        return total
