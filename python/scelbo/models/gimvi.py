r"""gimVI: unmeasured genes of spatial data from dissociated cells (Lopez et al., arXiv:1905.02269, 2019).

Two data sets d share a latent space: dissociated cells with all genes, and spatial ones with the genes of a panel, :math:`G_d`.
For cell n of data set d and batch :math:`s_n`

.. math::
    z_n &\sim N(0, I) \\
    l_n &\sim \mathrm{LogNormal}(m_{s_n}, v_{s_n}) \quad\text{or observed: } \textstyle\sum_{g \in G_d} x_{ng} \\
    \rho_{ng} &= e^{h_{ng}} / \textstyle\sum_{k \in G_d} e^{h_{nk}}, \qquad h_n = f(z_n, s_n) \\
    x_{ng} &\sim p_d(l_n \rho_{ng},\, \theta_g,\, \pi_{ng}), \quad g \in G_d \qquad\text{ZINB of dissociated, NB of spatial cells}

with :math:`q(z \mid x)` from a first layer of each data set and further layers that both share, and an adversary that learns to tell from
z which data set a cell is from, which the encoder learns to prevent. What was not measured is :math:`f(z_n, s)`, s a dissociated batch.
"""

from __future__ import annotations

from dataclasses import InitVar, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis
from scelbo.data import Columns, PlainCells, Setup, join, joined, kind_of
from scelbo.data.joint import BATCH
from scelbo.errors import ArgumentError, DataError, SetupError
from scelbo.likelihoods import Likelihood, Mean, NegativeBinomial, Part, Parts, Poisson, ZeroInflatedNegativeBinomial
from scelbo.model import Model
from scelbo.models.scvi import per_gene
from scelbo.module import VAE, Loss
from scelbo.nn import MLP, Adversary, ConditionalLinear, GaussianEncoder, GroupedMLP, Known, PerCategory, affine
from scelbo.train.options import PlanOptions, TrainOptions

NAMES = ("seq", "spatial")
CERTAIN = 1e-8
"""Standard deviation of the log of a library size that is observed, in a minibatch where others are latent: prior and posterior alike."""
Distribution = Literal["zinb", "nb", "poisson"]


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    log_l: Normal | Known  # (cells, 1)


class Explained(NamedTuple):
    """What the model explains: the counts."""

    x: Parts


class GIMVIModule(VAE):
    """An encoder with a head for each data set, one decoder, and the adversary."""

    measured: Bool[Tensor, "sources genes"]
    origin: Int[Tensor, " batches"]

    def __init__(self, model: GIMVI, setup: Setup):
        super().__init__()
        self.likelihoods, self.n_sources = model.generative_distributions, len(setup.sources)
        batches, features = setup.categories["batch"], set
        self.register_buffer("measured", torch.tensor([[v in panel for v in setup.var_names] for panel in map(features, _panels(setup))]))
        of = {b: i for i, source in enumerate(setup.sources) for b in source.batches.values()}
        self.register_buffer("origin", torch.tensor([of[b] for b in batches]))
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "dropout": model.dropout_rate}
        sizes = self.measured.sum(1).tolist()
        self.heads = nn.ModuleList(MLP(n, n_layers=model.n_layers_encoder, **net) for n in sizes)
        self.shared_layers = GroupedMLP(model.n_hidden, n_layers=model.n_layers_shared, groups=self.n_sources, **net)
        self.z_mean, self.z_var = (nn.Linear(model.n_hidden, model.n_latent) for _ in range(2))
        self.l = nn.ModuleDict(
            {
                str(d): GaussianEncoder(n, 1, n_hidden=128, n_layers=1, dropout=model.dropout_rate)
                for d, n in enumerate(sizes)
                if model.model_library_size[d]
            }
        )
        self.l_prior = PerCategory("batch", len(batches), 2, learns=False) if self.l else None
        seen = {"categories": setup.n_categories("batch")}
        depth = model.n_layers_decoder or 0
        self.decoder = GroupedMLP(model.n_latent, model.n_hidden, depth, self.n_sources, dropout=model.dropout_rate, **seen)
        width = model.n_hidden if depth else model.n_latent
        self.rho = ConditionalLinear(width, setup.n_vars, seen["categories"] if model.batch_factors else None)
        if model.batch_factors:
            for shift in self.rho.shifts:
                shift.table.data.zero_()
        self.pi = ConditionalLinear(width, setup.n_vars) if "zinb" in self.likelihoods else None
        self.log_theta = per_gene(model.dispersion, setup)
        self.adversary = Adversary(model.n_latent, self.n_sources, n_hidden=32, n_layers=3)

    def rows(self, cells: PlainCells) -> list[tuple[int, Tensor]]:
        """Data set -> which cells are of it, where any are."""
        origin = self.origin[cells.batch]
        found = [(d, (origin == d).nonzero()[:, 0]) for d in range(self.n_sources)]
        return [(d, rows) for d, rows in found if len(rows)]

    def inference(self, cells: PlainCells) -> Latents:
        hidden, log_l, scale, order = [], [], [], []
        for d, rows in self.rows(cells):
            x = cells.x.take(rows)
            x.measured = self.measured[d]
            x = x.kept()
            seen = x.map(torch.log1p)
            hidden.append(self.heads[d](seen))
            l = self.l[str(d)](seen, cells) if str(d) in self.l else Normal(x.size.log(), x.size.new_full((1, 1), CERTAIN).expand_as(x.size))
            log_l.append(l.loc)
            scale.append(l.scale)
            order.append(rows)
        back = torch.cat(order).argsort()
        h = self.shared_layers(torch.cat(hidden)[back], cells, self.origin[cells.batch])
        q = Normal(self.z_mean(h), self.z_var(h).exp().sqrt(), validate_args=False)
        loc = torch.cat(log_l)[back]
        return Latents(q, Normal(loc, torch.cat(scale)[back], validate_args=False) if self.l else Known(loc))

    def prior(self, q: Latents, cells: PlainCells) -> Latents:
        p = super().prior(q, cells)
        if self.l_prior is None:
            return p
        mean, var = self.l_prior(cells).split(1, -1)
        latent = torch.tensor([str(d) in self.l for d in range(self.n_sources)], device=mean.device)[self.origin[cells.batch]][:, None]
        own = q.log_l
        assert isinstance(own, Normal)
        scale = torch.where(latent, var.clamp_min(1e-8).sqrt(), own.scale.detach())
        return p._replace(log_l=Normal(torch.where(latent, mean, own.loc), scale, validate_args=False))

    def observe(self, data: Columns) -> None:
        if self.l_prior is None:
            return
        for b in data["batch"].unique():
            x = data["x"].take((data["batch"] == b).nonzero()[:, 0])
            log_l = x.size.log()
            self.l_prior.set_row(int(b), torch.cat([log_l.mean(0), log_l.var(0, unbiased=False)]))

    def generative(self, z: Any, cells: PlainCells) -> Explained:
        hidden = self.decoder(z.z, cells, self.origin[cells.batch])
        return Explained(Parts([Part(rows, self.measured[d], self._of(d, rows, hidden, z.log_l, cells)) for d, rows in self.rows(cells)]))

    def _of(self, d: int, rows: Tensor, hidden: Tensor, log_l: Tensor, cells: PlainCells) -> Any:
        """The likelihood of some genes in the cells ``rows``, all of data set d."""
        h, l, batch = hidden.index_select(-2, rows), log_l.index_select(-2, rows), cells.batch[rows]

        def likelihood(genes: Tensor | slice) -> Likelihood:
            out = affine(h, self.rho.weight[:, genes], self.rho.bias[genes])  # type: ignore[index]
            for shift in self.rho.shifts:
                out = out + shift.rows()[:, genes][batch]  # type: ignore[operator]
            among = self.measured[d].nonzero()[:, 0] if isinstance(genes, slice) and not self.measured[d].all() else None
            rate = Mean(out, l, among=among)
            if self.likelihoods[d] == "poisson":
                return Poisson(rate)
            rows_of = self.log_theta.rows()[cells.codes(self.log_theta.covariate)[rows]] if isinstance(self.log_theta, PerCategory) else None
            log_theta = (self.log_theta["all"][None] if rows_of is None else rows_of)[..., genes]  # type: ignore[index]
            if self.likelihoods[d] == "nb":
                return NegativeBinomial(rate, log_theta)
            assert self.pi is not None
            return ZeroInflatedNegativeBinomial(rate, log_theta, affine(h, self.pi.weight[:, genes], self.pi.bias[genes]))  # type: ignore[index]

        return likelihood

    def loss(self, cells: PlainCells, q: Latents, z: Any, p: Explained) -> Loss:  # type: ignore[override]
        """Minus the ELBO, and what the two players of the adversary minimise."""
        return replace(super().loss(cells, q, z, p), penalty=self.adversary.penalties(z.z, self.origin[cells.batch]))


def _panels(setup: Setup) -> list[tuple[str, ...]]:
    return [source.features for source in setup.sources]


class GIMVI(Model):
    """Genes that spatial data did not measure, imputed from dissociated cells of the same tissue, with a latent space of both.

    The arguments below are those of ``GIMVI(adata_seq, adata_spatial, ...)``. Those of ``GIMVI.setup_anndata(adata, ...)``, which is
    called for each of the two: ``layer, batch_key, labels_key``. The two are put below each other in ``model.adata``, dissociated cells
    first: its rows are what ``indices`` count. Cells given as ``adata`` are a data set of either kind, or one of each.

    Parameters
    ----------
    adata_seq
        Dissociated cells.
    adata_spatial
        Spatial cells, whose genes are some of those of ``adata_seq``.
    generative_distributions
        Of the counts of either, ``"zinb"``, ``"nb"`` or ``"poisson"``.
    model_library_size
        Of either, whether the library size is latent (else the cell's total).
    n_latent
        Dimensions of z.
    n_hidden
        Units in a hidden layer.
    n_layers_encoder, n_layers_shared
        Hidden layers of each data set's own, and of both.
    n_layers_decoder
        Hidden layers of the decoder; None: proportions are the softmax of a linear map of z.
    batch_factors
        Whether each batch counts each gene with an efficiency of its own.
    dropout_rate
        Share of hidden units dropped while training.
    dispersion
        What the inverse dispersion theta depends on.

    Examples
    --------
    >>> from scelbo import GIMVI
    >>> from scelbo.data.simulate import counts
    >>> seq, spatial = counts(n_cells=200, n_genes=50), counts(n_cells=150, n_genes=50, stored=0.5)[:, :20].copy()
    >>> GIMVI.setup_anndata(seq)
    >>> GIMVI.setup_anndata(spatial)
    >>> model = GIMVI(seq, spatial)
    >>> model.train(max_epochs=2, progress=False)
    >>> [z.shape for z in model.get_latent_representation()]
    [(200, 10), (150, 10)]
    >>> model.impute(["gene30", "gene40"]).mean.shape
    (150, 2)
    """

    adata: AnnData | None = field(init=False, default=None)
    adata_seq: InitVar[AnnData | None] = field(kw_only=False)  # type: ignore[misc]
    adata_spatial: InitVar[AnnData | None] = field(default=None, kw_only=False)
    generative_distributions: tuple[Distribution, ...] = ("zinb", "nb")
    model_library_size: tuple[bool, ...] = (True, False)
    n_latent: int = 10
    n_hidden: int = 64
    n_layers_encoder: int = 1
    n_layers_shared: int = 1
    n_layers_decoder: int | None = None
    batch_factors: bool = False
    dropout_rate: float = 0.2
    dispersion: Literal["gene", "gene-batch", "gene-label"] = "gene-batch"

    Cells = PlainCells
    plan: ClassVar[PlanOptions] = PlanOptions(scale_adversarial_loss=5.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(n_epochs_kl_warmup=400, scale_adversarial_loss=5.0)}
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=200)

    def __post_init__(self, adata_seq: AnnData | None, adata_spatial: AnnData | None) -> None:  # type: ignore[override]
        of_two = {"generative_distributions": self.generative_distributions, "model_library_size": self.model_library_size}
        for name, values in of_two.items():
            if not isinstance(values, list | tuple) or len(values) != len(NAMES):
                raise ArgumentError(f"{name}={values!r} is not allowed: it is a pair, for dissociated and for spatial cells.")
            setattr(self, name, tuple(values))
        if self.setup is None:
            if adata_spatial is None:
                raise SetupError("GIMVI reads two data sets.", "GIMVI(adata_seq, adata_spatial).")
            self.adata = join({"seq": adata_seq, "spatial": adata_spatial}, PlainCells, type(self).__name__)  # type: ignore[dict-item]
        else:
            self.adata = None if adata_seq is None else self.source(adata_seq)  # loaded
        super().__post_init__()

    def build(self, setup: Setup) -> GIMVIModule:
        if not setup.whole:
            raise DataError("GIMVI explains counts, and the data hold values that are not whole or are negative.", "Name the layer with raw counts.")
        return GIMVIModule(self, setup)

    def source(self, adata: Any = None) -> AnnData:
        """The cells that a question is about, put together as those of ``model.adata`` are."""
        if adata is None or (isinstance(adata, AnnData) and BATCH in adata.obs):
            return super().source(adata)
        if isinstance(adata, list | tuple):
            if len(adata) != len(NAMES):
                raise ArgumentError(f"{len(adata)} data sets were given.", "Give dissociated and spatial cells, or either alone.")
            return joined(self.setup.sources, adata, self.setup.var_names)
        return joined([kind_of(self.setup.sources, adata)], [adata], self.setup.var_names)

    def streams(self) -> list[np.ndarray]:
        """As many dissociated as spatial cells in each minibatch."""
        origin = self.module.origin.cpu()[self.read()["batch"]]  # type: ignore[operator,union-attr]
        return [np.flatnonzero(origin == d) for d in range(len(NAMES))]

    @classmethod
    def load(cls, folder: str | Path, adata_seq: AnnData | None = None, adata_spatial: AnnData | None = None) -> Self:  # type: ignore[override]
        """Open a saved model, with its data (both data sets, or ``data.h5ad`` in the folder) or without. No code in the folder is run."""
        return super().load(folder, adata_seq if adata_spatial is None else [adata_seq, adata_spatial])  # type: ignore[arg-type]

    get_latent_representation = analysis.latent_by_source
    get_imputed_values = analysis.imputed_values
    impute = analysis.impute
    get_latent_library_size = analysis.latent_library_size
    get_normalized_expression = analysis.normalized_expression
    get_likelihood_parameters = analysis.likelihood_parameters
    get_feature_correlation_matrix = analysis.feature_correlation_matrix
    posterior_predictive_sample = analysis.posterior_predictive_sample
    get_aggregated_posterior = analysis.aggregated_posterior
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    get_latent_kl = analysis.latent_kl
    differential_expression = analysis.differential_expression
    minify = analysis.minify
    with_data = analysis.with_data
