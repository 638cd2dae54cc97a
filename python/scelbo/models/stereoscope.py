r"""Stereoscope: which cell types a spot holds (Andersson et al., Communications Biology 3:565, 2020, doi:10.1038/s42003-020-01247-y).

A cell c of type z(c) with library size l_c, and a spot s, whose cells' counts add up; genes g; :math:`\mathrm{NB}(r, o)` has mean
:math:`r e^o`, and o belongs to the gene:

.. math::
    x_{cg} &\sim \mathrm{NB}(l_c w_{z(c) g},\, o_g) \\
    x_{sg} &\sim \mathrm{NB}(\textstyle\sum_z v_{sz}\, \beta_g w_{zg} + v_{s0}\, \epsilon_g,\, o_g),
    \qquad \epsilon_g = \mathrm{softplus}(\eta_g),\quad \eta_g \sim N(0, 1)

First w and o are learnt from cells, then v, beta (how much better spots count a gene than cells) and eta from spots, both by
maximum a posteriori. The share of type z in spot s is :math:`v_{sz} / \sum_k v_{sk}`; what :math:`\epsilon` explains is of no known type.

Given all else :math:`v_s` has one best value (:func:`~scelbo.likelihoods.amounts`): it is what questions answer with, also of new spots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis
from scelbo.arguments import named
from scelbo.data import Columns, Counts, Loader, Setup, Spots, TypedCells
from scelbo.likelihoods import AdditiveNB, Amounts, amounts, mixed
from scelbo.model import Model
from scelbo.models.of_reference import FromData, OfSpots, SpatialModel
from scelbo.module import Loss
from scelbo.nn import (
    OfCounts,
    PerCategory,
    PerSpot,
    SharesOfCounts,
    inverse_softplus,
    mean_profiles,
)
from scelbo.train.options import PlanOptions, TrainOptions

LEAST = 1e-4
"""Share below which no amount starts: from nothing it could not grow."""


class RNAModule(FromData):
    """The types' profiles w and the genes' log-odds o."""

    def __init__(self, model: RNAStereoscope, setup: Setup):
        super().__init__()
        genes, sizes = setup.n_vars, setup.n_categories("label", "batch")
        self.start = model.start
        self.o = nn.Parameter(torch.randn(genes))
        self.W = PerCategory("label", sizes["label"], genes)
        self.log_batch = PerCategory("batch", sizes["batch"], genes, bound=0.0, shift=True)
        nn.init.normal_(self.W.table)

    def start_at(self, data: Columns) -> None:
        """Each type's mean share of counts, with a little of what all have in common."""
        counted = data.sums_by("x", "label", len(self.W.table))
        self.o.zero_()
        self.W.table.copy_(inverse_softplus(mean_profiles(counted, counted.sum(1, keepdim=True))))

    def profiles(self) -> Float[Tensor, "types genes"]:
        """w."""
        return F.softplus(self.W.rows())

    def explained(self, cells: TypedCells) -> AdditiveNB:
        """p(x | type)."""
        return AdditiveNB(self.profiles()[cells.label] * self.log_batch(cells).exp(), self.o, cells.x.size)

    def forward(self, cells: TypedCells) -> Loss:  # type: ignore[override]
        return Loss({"x": -self.explained(cells).log_prob(cells.x)})


class SpatialModule(OfSpots):
    """Amounts v of each spot, beta of each batch of spots, and noise; the reference's w and o do not learn.

    A type may be there in several states, each with an amount, those of a type side by side.
    """

    w: Tensor
    o: Tensor

    def __init__(self, model: Any, setup: Setup, n_states: int = 1):
        super().__init__()
        types, batches = len(model.cell_types), setup.n_categories("batch")["batch"]
        self.start, self.n_spots, self.n_states = model.start, model.n_spots, n_states
        self.by_total, self.per_minibatch = float(model.start == "data"), float(model.prior_weight == "minibatch")
        self.register_buffer("w", torch.zeros(types, setup.n_vars))
        self.register_buffer("o", torch.zeros(setup.n_vars))
        self.register_buffer("nearby", torch.zeros(1), persistent="smoothed" in setup.features)
        self.beta = PerCategory("batch", batches, setup.n_vars, bound=0.01)
        self.noise = nn.ParameterDict({"eta": torch.randn(setup.n_vars)})
        self.V: PerSpot | OfCounts = PerSpot(self.n_spots, types * n_states + 1)
        self.reader = SharesOfCounts(setup.n_vars, types, analysis.FOLDS) if model.augmentation else None

    def start_at(self, data: Columns) -> None:
        """Where all genes count alike, each spot's best amounts."""
        self.beta.table.fill_(inverse_softplus(torch.ones(())))
        self.V.start(inverse_softplus(torch.cat(list(map(self.by_size, Loader(data, np.arange(len(data)), 64)))).clamp_min(LEAST)))

    def by_size(self, spots: Any) -> Float[Tensor, "spots types_1"]:
        """The best v over the spot's counts."""
        return self.solved(spots) / spots.x.size

    def profiles(self, spots: Spots) -> Float[Tensor, "*spots types genes"]:
        """w, of each spot or one for all."""
        return self.w

    def basis(self, spots: Spots, w: Tensor) -> Float[Tensor, "*spots types_1 genes"]:
        """What a unit of each type, and of noise, is expected to show: of each spot, or one for all where these do not differ."""
        types = F.softplus(self.beta.once(spots))[..., None, :] * w
        return torch.cat([types, F.softplus(self.noise["eta"]).expand_as(types[..., :1, :])], -2)

    def learnt(self, spots: Spots) -> Float[Tensor, "spots types_1"]:
        """v as training has it."""
        return F.softplus(self.V(spots)) * spots.x.size**self.by_total

    def best(self, spots: Spots, w: Tensor) -> Float[Tensor, "spots types_1"]:
        """The best v with these profiles, all else as it is."""
        return amounts(spots.x, self.basis(spots, w), self.o)

    def solved(self, spots: Spots) -> Float[Tensor, "spots types_1"]:
        """The best v."""
        return self.best(spots, self.profiles(spots))

    def information(self, v: Tensor, spots: Spots) -> Float[Tensor, "spots types_1 types_1"]:
        """Minus the second derivative of log p(x | v)."""
        return Amounts(spots.x, self.basis(spots, self.profiles(spots)), self.o).information(v.double())

    def of_profiles(self, x: Counts, w: Tensor) -> tuple[Tensor, Tensor]:
        """The best v of mixtures of other profiles, and its information, before spots have taught anything."""
        basis = torch.cat([w, F.softplus(self.noise["eta"])[None]]).to(self.o)
        v = amounts(x, basis, self.o)
        return v, Amounts(x, basis, self.o).information(v.double())

    def noise_share(self, v: Tensor, spots: Spots) -> Float[Tensor, " spots"]:
        """Of a spot's expected counts, what no type explains."""
        noise = v[:, -1] * (F.softplus(self.noise["eta"]) @ self.o.exp())
        return noise / self.explained(v, spots, self.profiles(spots)).mean.sum(-1)

    def explained(self, v: Tensor, spots: Spots, w: Tensor) -> AdditiveNB:
        """p(x | v)."""
        noise = v[:, -1:] * F.softplus(self.noise["eta"])
        return AdditiveNB(mixed(v[:, :-1], w) * F.softplus(self.beta(spots)) + noise, self.o, torch.ones_like(v[:, :1]))

    def taken(self, spots: Spots, w: Tensor) -> Float[Tensor, "spots types_1"]:
        """v, with these profiles, as the loss takes it. Spots that do not train have none of their own to learn: theirs is the best."""
        return self.learnt(spots) if self.training else self.best(spots, w)

    def cost(self, spots: Spots, w: Tensor, v: Tensor) -> Loss:
        """With these profiles and amounts. A training may weigh the entropy of shares: the less there is, the fewer types are in a spot."""
        times = (self.n_spots / len(spots)) ** self.per_minibatch
        prior = -Normal(0.0, 1.0, validate_args=False).log_prob(self.noise["eta"]).sum() * times
        entropy = torch.special.entr(self.shares(v)).sum(-1).mean()
        return Loss({"x": -self.explained(v, spots, w).log_prob(spots.x)}, kl_global={"eta": prior}, penalty={"entropy": entropy})

    def forward(self, spots: Spots) -> Loss:  # type: ignore[override]
        w = self.profiles(spots)
        return self.cost(spots, w, self.taken(spots, w))


class RNAStereoscope(Model):
    """Profiles of cell types from dissociated cells, for :class:`SpatialStereoscope`.

    The arguments below are those of ``RNAStereoscope(adata, ...)``. Those of ``RNAStereoscope.setup_anndata(adata, ...)``: ``labels_key``
    (needed), ``layer, batch_key``.

    Parameters
    ----------
    start
        Training starts at the types' mean profiles (``"data"``), or at random ones (``"random"``, as published).

    Examples
    --------
    >>> from scelbo import RNAStereoscope, SpatialStereoscope
    >>> from scelbo.data.simulate import spots
    >>> cells, tissue = spots(n_spots=60, n_cells=200, n_genes=80, stored=0.8)
    >>> RNAStereoscope.setup_anndata(cells, labels_key="cell_type")
    >>> reference = RNAStereoscope(cells)
    >>> reference.train(max_epochs=2, progress=False)
    >>> model = SpatialStereoscope.from_rna_model(tissue, reference)
    80 genes are in reference and spots.
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_proportions().shape
    (60, 4)
    """

    start: Literal["data", "random"] = "data"

    Cells = TypedCells
    plan: ClassVar[PlanOptions] = PlanOptions(lr=0.01, eps=1e-8, weight_decay=0.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(lr=0.01, eps=0.01 / 128, weight_decay=0.0)}
    """scvi-tools' loss is the sum over a minibatch: Adam's eps is 128 times larger beside it."""
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=100, train_size=1.0)

    def build(self, setup: Setup) -> RNAModule:
        return RNAModule(self, setup)

    @torch.no_grad()
    @named
    def get_profiles(self) -> pd.DataFrame:
        """Expected share of each gene in a cell's counts, :math:`w_{zg} e^{o_g}`: a data frame types x genes."""
        self.require_trained()
        module: Any = self.module
        profiles = (module.profiles() * module.o.exp()).cpu().numpy()
        return pd.DataFrame(profiles, index=self.setup.categories["label"], columns=self.setup.var_names)

    get_elbo = analysis.elbo


class SpatialStereoscope(SpatialModel):
    """Shares of cell types in spots: made of a trained :class:`RNAStereoscope` by :meth:`from_rna_model`.

    ``SpatialStereoscope.setup_anndata(spots, ...)`` takes ``layer, batch_key``: each batch (a slide) has a beta of its own; and
    ``smoothed_layer``: each spot's counts summed (or averaged) over its neighbours, without itself. Its shares are then drawn to those
    around it, as far as the spots say that neighbours are alike (:func:`~scelbo.analysis.learn_from_surroundings`).

    Parameters
    ----------
    prior_weight
        How often the prior of eta counts: once for all spots (``"n_obs"``), or in each minibatch.
    augmentation
        Whether mixtures of the reference's cells teach networks to read shares off counts, which are then trusted as far as they are right
        of held-out cells (:func:`~scelbo.analysis.learn_from_mixtures`). False: the optimum of the model alone, as published.
    cells_per_spot
        How many cells a spot has, about: mixtures of so many of the reference's cells teach that, and say how far intervals reach.
    start
        Where training starts: at each spot's best amounts (``"data"``), or at random (``"random"``, as published).

    Examples
    --------
    Beside a reference as that of :class:`~scelbo.RNAStereoscope`, the counts of each spot's eight nearest:

    >>> from scipy.sparse import csr_matrix
    >>> from sklearn.neighbors import kneighbors_graph
    >>> from scelbo import RNAStereoscope, SpatialStereoscope
    >>> from scelbo.data.simulate import spots
    >>> cells, tissue = spots(n_spots=60, n_cells=200, n_genes=80, stored=0.8)
    >>> RNAStereoscope.setup_anndata(cells, labels_key="cell_type")
    >>> reference = RNAStereoscope(cells)
    >>> reference.train(max_epochs=2, progress=False)
    >>> tissue.layers["around"] = csr_matrix(kneighbors_graph(tissue.obsm["spatial"], 8) @ tissue.X)
    >>> model = SpatialStereoscope.from_rna_model(tissue, reference, anndata_setup_kwargs={"smoothed_layer": "around"})
    80 genes are in reference and spots.
    >>> 0 <= float(model.module.nearby) <= 1
    True
    """

    prior_weight: Literal["n_obs", "minibatch"] = "n_obs"
    augmentation: bool = True
    cells_per_spot: int = 8
    start: Literal["data", "random"] = "data"

    Reference: ClassVar[type[Model]] = RNAStereoscope
    plan: ClassVar[PlanOptions] = PlanOptions(lr=0.01, eps=1e-8, weight_decay=0.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(lr=0.01, eps=1e-5, weight_decay=0.0)}
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=50, train_size=1.0)

    def build(self, setup: Setup) -> SpatialModule:
        self.require_reference()
        return SpatialModule(self, setup)

    def take(self, reference: Any, genes: Tensor) -> None:
        known = reference.module
        self.module.w, self.module.o = known.profiles()[:, genes].detach().clone(), known.o[genes].detach().clone()

    @torch.no_grad()
    @named
    def get_scale_for_ct(self, y: str | Sequence[str]) -> pd.DataFrame:
        """Expected counts of each gene of a unit of these types, as spots (of the first batch) count it: a data frame types x genes."""
        self.require_trained()
        module: Any = self.module
        scale = F.softplus(module.beta.rows()[0]) * module.w[analysis.types_of(self, y)] * module.o.exp()
        return pd.DataFrame(scale.cpu().numpy(), index=np.atleast_1d(y), columns=self.setup.var_names)
