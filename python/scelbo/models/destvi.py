r"""DestVI: which cell types a spot holds, and in which state (Lopez et al., Nature Biotechnology 40:1360, 2022).

As Stereoscope (:mod:`scelbo.models.stereoscope`), but the profile of a type differs from spot to spot, by the state of its cells there:

.. math::
    \gamma_{sz} &\sim \textstyle\sum_k \pi_{zk}\, N(m_{zk}, \mathrm{diag}(u_{zk})) \qquad\text{states that cells were seen in} \\
    x_{sg} &\sim \mathrm{NB}(\beta_g \textstyle\sum_z v_{sz}\, f_g(z, \gamma_{sz}) + v_{s0}\, \epsilon_g,\, o_g)

with f and o of a trained CondSCVI (:mod:`scelbo.models.condscvi`), which do not learn on. Maximum a posteriori, with a penalty
:math:`\lambda\, \mathrm{Var}_g \log \beta_g`, and :math:`\kappa \sum_z v_{sz}` (L1, over the spot's total). v, gamma, or both may be
amortised: a network's function of the counts, so that new spots have theirs; what is not amortised is a spot's own. Given gamma the best v
is found exactly, as in Stereoscope. A type may be in several states in a spot, each with a gamma and an amount of its own.
doi:10.1038/s41587-022-01272-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from anndata import AnnData
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Normal

from scelbo import analysis
from scelbo.data import Columns, Setup, Spots, TypedCells
from scelbo.errors import ArgumentError
from scelbo.model import Model
from scelbo.models.condscvi import CondSCVI
from scelbo.models.of_reference import SpatialModel
from scelbo.models.stereoscope import SpatialModule
from scelbo.module import Loss
from scelbo.nn import MLP, Linear, Mixture, NestedClassifier, OfCounts, PerCategory, PerSpot, within_types
from scelbo.train.options import PlanOptions, TrainOptions


class DestVIModule(SpatialModule):
    """Stereoscope's, whose profiles are decoded from gamma."""

    prior_mean: Tensor  # (types, components, n_latent)
    prior_sd: Tensor
    prior_log_weight: Tensor  # (types, components); minus infinity where a type has fewer

    def __init__(self, model: DestVI, setup: Setup):
        super().__init__(model, setup, model.n_states_per_label)
        types, genes = self.w.shape
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "dropout": model.dropout_amortization, "n_latent": model.n_latent_amortization}
        self.n_latent, self.variance_penalty, self.l1_penalty = model.n_latent, model.variance_penalty, model.l1_penalty
        self.prior_mode = model.prior_mode
        self.decoder = MLP(model.n_latent, model.n_hidden, model.n_layers, batch_norm=False, layer_norm=True, categories={"label": types})
        self.rho = Linear(model.n_hidden, genes)
        self.bias = PerCategory("label", types, genes, bound=0.0)
        self.fine = NestedClassifier(model.n_latent, len(model.fine_types)) if model.fine_types else None
        for part in (self.decoder, self.rho, self.bias, self.fine):
            if part is not None:
                part.requires_grad_(False)
        for name, shape in {"mean": (model.n_latent,), "sd": (model.n_latent,), "log_weight": ()}.items():
            self.register_buffer(f"prior_{name}", torch.ones(types, model.vamp_prior_p, *shape))
        if model.amortization in ("both", "proportion"):
            self.V = OfCounts(genes, types * self.n_states + 1, **net)
        amortised, n = model.amortization in ("both", "latent"), types * self.n_states * model.n_latent
        self.states: PerSpot | OfCounts = OfCounts(genes, n, **net) if amortised else PerSpot(self.n_spots, n)

    def start_at(self, data: Columns) -> None:
        """Each type's mean state, or where its states are; and there what Stereoscope does."""
        self.states.start(torch.stack(list(map(self.centres, range(len(self.w))))).flatten().expand(self.n_spots, -1))
        super().start_at(data)

    def centres(self, kind: int) -> Float[Tensor, "states n_latent"]:
        """The mean of a type's prior; of several states that of as many clusters of its components, and apart also where it has fewer."""
        from sklearn.cluster import KMeans  # takes long

        weight, n = self.prior_log_weight[kind].exp(), torch.arange(self.n_states)
        mean, sd = ((weight[:, None] * part[kind]).sum(0) for part in (self.prior_mean, self.prior_sd))
        there, k = weight > 0, min(self.n_states, int((weight > 0).sum()))
        if self.n_states > 1:
            clusters = KMeans(k, n_init=10, random_state=0).fit(self.prior_mean[kind, there].numpy(), sample_weight=weight[there].numpy())
            mean = torch.from_numpy(clusters.cluster_centers_)[n % k]
        return mean + (n // k)[:, None] * sd

    def gamma(self, spots: Spots) -> Float[Tensor, "states spots n_latent"]:
        """The state of each type in each spot, or its states, side by side."""
        return self.states(spots).view(len(spots), -1, self.n_latent).transpose(0, 1)

    def decoded(self, gamma: Float[Tensor, "some spots n_latent"], types: Tensor, spots: Spots) -> Float[Tensor, "some spots genes"]:
        """f of some types in these states."""
        each = TypedCells(index=spots.index, label=types[:, None])
        return F.softplus(self.rho(self.decoder(gamma, each)) + self.bias.rows()[types][:, None])

    def kinds(self, gamma: Float[Tensor, "states spots n_latent"]) -> Int[Tensor, " states"]:
        """Which type each state is of."""
        return torch.arange(len(gamma), device=gamma.device) // self.n_states

    def of_states(self, gamma: Float[Tensor, "states spots n_latent"], spots: Spots) -> Float[Tensor, "spots states genes"]:
        """f of all types."""
        return self.decoded(gamma, self.kinds(gamma), spots).transpose(0, 1)

    def of_types(
        self, values: Float[Tensor, "states spots some"], spots: Spots, some: Any = slice(None)
    ) -> Float[Tensor, "types spots some"]:
        """The mean over the states of each type (or of some types), by their amounts."""
        if self.n_states == 1:
            return values
        share = within_types(self.solved(spots), self.n_states)[:, some].permute(1, 2, 0)[..., None]
        return (share * values.unflatten(0, (-1, self.n_states))).sum(1)

    def profiles(self, spots: Spots) -> Float[Tensor, "spots states genes"]:
        return self.of_states(self.gamma(spots), spots)

    def log_prior(self, gamma: Float[Tensor, "states spots n_latent"]) -> Float[Tensor, "states spots"]:
        """Log density of states: by the mixture of their type, or as far as they are from 0."""
        if self.prior_mode == "normal":
            return Normal(0.0, 1.0, validate_args=False).log_prob(gamma).sum(-1)
        of = self.kinds(gamma)[:, None]
        return Mixture(self.prior_log_weight[of], self.prior_mean[of], self.prior_sd[of]).log_prob(gamma)[..., 0]

    def fine_shares(self, spots: Spots) -> Float[Tensor, "types spots labels"]:
        """Of the fine labels, by the state of each type."""
        assert self.fine is not None
        gamma = self.gamma(spots)
        return self.of_types(self.fine.shares(gamma, self.kinds(gamma)[:, None]), spots)

    def forward(self, spots: Spots) -> Loss:  # type: ignore[override]
        gamma = self.gamma(spots)
        w, beta = self.of_states(gamma, spots), F.softplus(self.beta.rows())
        v = self.taken(spots, w)
        whole = self.cost(spots, w, v)
        penalty = {**whole.penalty, "variance": self.variance_penalty * beta.log().var(-1).mean()}
        if self.l1_penalty:
            penalty["l1"] = self.l1_penalty * (v / spots.x.size).sum(-1).mean()
        return replace(whole, kl={"gamma": -self.log_prior(gamma).sum(0)}, penalty=penalty)


class DestVI(SpatialModel):
    """Shares of cell types in spots, and the states of their cells there: made of a trained CondSCVI by :meth:`from_rna_model`.

    ``DestVI.setup_anndata(spots, ...)`` takes ``layer, batch_key, smoothed_layer``, as :class:`~scelbo.SpatialStereoscope`'s.

    Parameters
    ----------
    amortization
        What a network reads off the counts: ``"latent"`` (gamma), ``"proportion"`` (v), ``"both"``, or ``"none"``. Without amortised gamma
        new spots have none.
    dropout_amortization
        Share of that network's hidden units dropped while training.
    vamp_prior_p
        Components of a type's prior of gamma, at most.
    prior_mode
        Of gamma: ``"mog"``, above, or ``"normal"``, N(0, I) for all types, as the reference's ``prior="normal"``.
    n_states_per_label
        How many states a type may have in one spot, each with an amount. Its share is that of all, its state their mean.
    variance_penalty, l1_penalty
        Lambda and kappa above.
    prior_weight, augmentation, start, cells_per_spot
        As of :class:`~scelbo.SpatialStereoscope`.
    n_latent_amortization
        Numbers that a network passes on in its middle of what it reads; None: no such bottleneck.
    n_hidden, n_latent, n_layers, fine_types
        The reference's (fine label -> its type).

    Examples
    --------
    See :class:`~scelbo.CondSCVI`.
    """

    amortization: Literal["both", "latent", "proportion", "none"] = "latent"
    dropout_amortization: float = 0.03
    vamp_prior_p: int = 15
    prior_mode: Literal["mog", "normal"] = "mog"
    n_states_per_label: int = 1
    variance_penalty: float = 5.0
    l1_penalty: float = 0.0
    prior_weight: Literal["n_obs", "minibatch"] = "n_obs"
    augmentation: bool = True
    cells_per_spot: int = 8
    start: Literal["data", "random"] = "data"
    n_latent_amortization: int | None = None
    n_hidden: int = 128
    n_latent: int = 5
    n_layers: int = 2
    fine_types: dict[str, str] | None = None

    Reference: ClassVar[type[Model]] = CondSCVI
    plan: ClassVar[PlanOptions] = PlanOptions(lr=3e-3, eps=1e-8, weight_decay=0.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(lr=3e-3, n_epochs_kl_warmup=200)}
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=100, train_size=1.0)

    def build(self, setup: Setup) -> DestVIModule:
        self.require_reference()
        return DestVIModule(self, setup)

    @classmethod
    def sizes(cls, reference: Any) -> dict[str, Any]:
        if reference.gene_likelihood != "additive":
            raise ArgumentError("Counts of spots add up, and those of this CondSCVI do not.", "Make it with gene_likelihood='additive'.")
        return {name: getattr(reference, name) for name in ("n_hidden", "n_latent", "n_layers", "fine_types")}

    @torch.no_grad()
    def take(self, reference: Any, genes: Tensor) -> None:
        own: Any = self.module
        known = reference.module
        for mine, theirs in zip(own.decoder.linear, known.decoder.linear, strict=True):
            of_label, of_batch = theirs.shifts
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias + of_batch.rows().mean(0))  # of the reference's batches spots have none
            mine.shifts[0].table.copy_(of_label.rows())
        own.rho.weight.copy_(known.rho.weight[:, genes])
        own.rho.bias.copy_(known.rho.bias[genes])
        own.bias.table.copy_(known.bias.rows()[:, genes])
        own.o = known.o[genes].detach().clone()
        if own.fine is not None:
            own.fine.load_state_dict(known.fine.state_dict())
        prior = reference.get_vamp_prior(p=self.vamp_prior_p)
        own.prior_log_weight.fill_(-math.inf)
        for z, (_, rows) in enumerate(prior.groupby(pd.Categorical(prior["cell_type"], self.cell_types), observed=False)):
            values = lambda what, rows=rows: torch.from_numpy(rows.filter(regex=f"^{what}").to_numpy(np.float32))  # noqa: E731
            own.prior_mean[z, : len(rows)], own.prior_sd[z, : len(rows)] = values("mean_"), values("variance_").sqrt()
            own.prior_log_weight[z, : len(rows)] = values("weight")[:, 0].log()

    def batches(self, adata: AnnData | None = None, indices: Any = None, batch_size: int | None = None) -> Iterator[Any]:
        """As of any model; 64 spots at once, each with profiles of its own."""
        if self.amortization not in ("both", "latent") and self.source(adata) is not self.adata:
            raise ArgumentError("New spots have no states: theirs are not amortised.", "Make the model with amortization='latent'.")
        return super().batches(adata, indices, batch_size or 64)

    get_gamma = analysis.states
    get_scale_for_ct = analysis.scale_of_type
    get_fine_celltypes = analysis.fine_shares
    get_expression_for_ct = analysis.expression_of_type
