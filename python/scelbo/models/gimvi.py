r"""gimVI: unmeasured genes of spatial data from dissociated cells (Lopez et al., arXiv:1905.02269, 2019).

Two data sets d share a latent space: dissociated cells with all genes, and spatial ones with the genes of a panel, :math:`G_d`.
For cell n of data set d and batch :math:`s_n`

.. math::
    z_n &\sim N(0, I) \\
    l_n &\sim \mathrm{LogNormal}(m_{s_n}, v_{s_n}) \quad\text{or observed: } \textstyle\sum_{g \in G_d} x_{ng} \\
    \rho_{ng} &= e^{h_{ng}} / \textstyle\sum_{k \in G_d} e^{h_{nk}}, \qquad h_n = f(z_n, s_n) \\
    x_{ng} &\sim p_d(l_n \rho_{ng},\, \theta_g,\, \pi_{ng}), \quad g \in G_d \qquad\text{ZINB of dissociated, NB of spatial cells}

with :math:`q(z \mid x)` from a first layer of each data set and further layers that both share, and an adversary that learns to tell from
z which data set a cell is from, which the encoder learns to prevent. Beyond the paper, dissociated cells are also seen through the panel:
z is then encoded from the genes of :math:`G_2` alone, and explains all genes, as imputation asks of spatial cells.
"""

from __future__ import annotations

from dataclasses import InitVar, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from scelbo import analysis
from scelbo.data import Columns, Counts, PlainCells, Setup, join, joined, kind_of
from scelbo.data.dense import seen_through
from scelbo.data.joint import BATCH
from scelbo.errors import ArgumentError, DataError, SetupError
from scelbo.likelihoods import Likelihood, Mean, Part, Parts, apart, of_counts, together
from scelbo.model import Model
from scelbo.module import VAE, Loss, standard
from scelbo.nn import (
    Adversary,
    GaussianEncoder,
    GroupedMLP,
    HeadedEncoder,
    Known,
    LibraryPrior,
    Linear,
    PerCategory,
    affine,
    for_cells,
    per_feature,
)
from scelbo.train import preflight
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
    """An encoder with a head for each data set, one decoder, and the adversary. Cells of one data set go through at a time."""

    measured: Bool[Tensor, "sources genes"]
    origin: Int[Tensor, " batches"]

    def __init__(self, model: GIMVI, setup: Setup):
        super().__init__()
        self.likelihoods, self.panel_view, n_sources = model.generative_distributions, model.panel_view, len(setup.sources)
        of = {b: d for d, source in enumerate(setup.sources) for b in source.batches.values()}
        self.register_buffer("origin", torch.tensor([of[b] for b in setup.categories["batch"]]))
        panels = [frozenset(source.features) for source in setup.sources]
        self.register_buffer("measured", torch.tensor([[v in panel for v in setup.var_names] for panel in panels]))
        sizes, hidden = self.measured.sum(1).tolist(), dict[str, Any](n_hidden=model.n_hidden, dropout=model.dropout_rate)
        for d in (d for d, size in enumerate(sizes) if size < setup.n_vars):
            self.register_buffer(f"panel{d}", self.measured[d].nonzero()[:, 0], persistent=False)
        self.encoder = HeadedEncoder(
            sizes, model.n_latent, n_layers=model.n_layers_encoder, n_layers_shared=model.n_layers_shared,
            views=n_sources + model.panel_view, shares=model.encoder_reads == "shares", **hidden,
        )  # fmt: skip
        of_l, batches = dict[str, Any](n_hidden=128, n_layers=1, dropout=model.dropout_rate), setup.n_categories("batch")
        self.l = nn.ModuleDict({str(d): GaussianEncoder(n, 1, **of_l) for d, n in enumerate(sizes) if model.model_library_size[d]})
        self.l_prior = LibraryPrior(batches["batch"]) if self.l else None
        depth, genes, width = model.n_layers_decoder or 0, setup.n_vars, model.n_hidden if model.n_layers_decoder else model.n_latent
        self.decoder = GroupedMLP(model.n_latent, n_layers=depth, groups=n_sources, categories=batches, **hidden)
        self.rho = Linear(width, genes)
        self.factors = PerCategory("batch", batches["batch"], genes, bound=0.0) if model.batch_factors else None
        self.pi = Linear(width, genes) if "zinb" in self.likelihoods else None
        self.log_theta = per_feature(model.dispersion, genes, setup)
        self.adversary = Adversary(model.n_latent, n_sources, n_hidden=32, n_layers=3)

    def panel(self, d: int) -> Tensor | None:
        """The genes that data set d measures, if not all."""
        return getattr(self, f"panel{d}", None)

    def parts(self, cells: PlainCells) -> list[tuple[int, Tensor | slice, PlainCells]]:
        """(data set, which rows are of it, these cells), where there are any."""
        rows = apart(cells, self.origin, len(self.measured))
        found = [(d, some, part) for d, some in enumerate(rows) if len(part := cells.take(some))]
        for d, _, part in found:
            part.x.measured = self.panel(d)
        return found

    def inference(self, cells: PlainCells) -> Latents:
        ds, rows, seen = zip(*((d, rows, part.x.kept()) for d, rows, part in self.parts(cells)), strict=True)
        both = lambda of, name: together([getattr(q, name) for q in of], rows, 0)  # noqa: E731
        whole = lambda of: Normal(both(of, "loc"), both(of, "scale"), validate_args=False)  # noqa: E731
        z, log_l = whole(list(map(self.encoder, seen, ds, ds))), whole(list(map(self.library, seen, ds)))
        return Latents(z, log_l if self.l else Known(log_l.loc))

    def library(self, x: Counts, d: int) -> Normal:
        """q(log l | x); what is observed is certain."""
        if str(d) in self.l:
            return self.l[str(d)](x.map(torch.log1p))
        return Normal(x.size.log(), torch.full_like(x.size, CERTAIN), validate_args=False)

    def prior(self, q: Latents, cells: PlainCells) -> Latents:
        p = super().prior(q, cells)
        if self.l_prior is None:
            return p
        assert isinstance(q.log_l, Normal)
        own, known = self.l_prior.of(cells), (q.log_l.scale <= CERTAIN).detach()  # prior and posterior are the same, and cost nothing
        scale, mean = torch.where(known, q.log_l.scale, own.scale), torch.where(known, q.log_l.loc, own.loc)
        return p._replace(log_l=Normal(mean, scale, validate_args=False))

    def observe(self, data: Columns) -> None:
        if self.l_prior is not None:
            self.l_prior.take(data["x"].size, data["batch"])

    def generative(self, z: Any, cells: PlainCells) -> Explained:
        return Explained(Parts([self.part(z, *part) for part in self.parts(cells)]))

    def part(self, z: Any, d: int, rows: Tensor | slice, cells: PlainCells) -> Part:
        """Of the cells of data set d, by their rows of z."""
        hidden, log_l = self.decoder(z.z[..., rows, :], cells, d), z.log_l[..., rows, :]
        return Part(rows, self.panel(d), partial(self.likelihood, hidden, log_l, cells, d))

    def likelihood(self, hidden: Tensor, log_l: Tensor, cells: PlainCells, d: int, genes: Tensor | slice) -> Likelihood:
        """Of some genes, in cells of data set d."""
        of = lambda layer: affine(hidden, layer.weight[:, genes], layer.bias[genes])  # noqa: E731
        h = of(self.rho)
        if self.factors is not None:
            h = h + self.factors.rows()[:, genes][cells.batch]
        rate = Mean(h, log_l, among=self.panel(d) if isinstance(genes, slice) else None)
        log_theta, pi = for_cells(self.log_theta, cells)[..., genes], of(self.pi) if self.likelihoods[d] == "zinb" else None
        return of_counts(self.likelihoods[d], rate, log_theta, pi)

    def loss(self, cells: PlainCells, q: Latents, z: Any, p: Explained) -> Loss:
        """Minus the ELBO; what either player of the adversary minimises; and the dissociated cells seen through the panel."""
        penalty, latent, origin = {}, z.z, self.origin[cells.batch]
        if self.panel_view and self.training:
            for rows, part in ((rows, part) for d, rows, part in self.parts(cells) if d == 0):
                seen = self.encoder(seen_through(part.x, self.panel(1)), 1, len(self.measured))
                drawn = Latents(seen.rsample(), z.log_l[rows].detach())
                explained = Parts([self.part(drawn, 0, slice(0, len(part)), part)])
                penalty["panel"] = (kl_divergence(seen, standard(seen)).sum(-1) - explained.log_prob(part.x)).sum() / len(cells)
                latent, origin = torch.cat([latent, drawn.z]), torch.cat([origin, origin[rows]])  # type: ignore[list-item]
        return replace(super().loss(cells, q, z, p), penalty=penalty | self.adversary.penalties(latent, origin))


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
    n_hidden, dropout_rate
        Units in a hidden layer, and the share of them dropped while training.
    n_layers_encoder, n_layers_shared
        Hidden layers of each data set's own, and of both.
    n_layers_decoder
        Hidden layers of the decoder; None: proportions are the softmax of a linear map of z.
    batch_factors
        Whether each batch counts each gene with an efficiency of its own, a factor of its proportion.
    panel_view
        Whether dissociated cells are also trained as the panel shows them: z is then encoded from the panel's genes, by the spatial
        head, and explains all genes. It is what imputation asks of spatial cells. (Not in the paper.)
    encoder_reads
        ``"shares"``: counts over the cell's mean, the panel's standardised gene by gene in each data set; or ``"counts"``.
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
    adata_seq: InitVar[AnnData | None] = field(kw_only=False)
    adata_spatial: InitVar[AnnData | None] = field(default=None, kw_only=False)
    generative_distributions: tuple[Distribution, ...] = ("zinb", "nb")
    model_library_size: tuple[bool, ...] = (True, False)
    n_latent: int = 10
    n_hidden: int = 64
    n_layers_encoder: int = 1
    n_layers_shared: int = 1
    n_layers_decoder: int | None = None
    batch_factors: bool = True
    panel_view: bool = True
    encoder_reads: Literal["counts", "shares"] = "shares"
    dropout_rate: float = 0.2
    dispersion: Literal["gene", "gene-batch", "gene-label"] = "gene-batch"

    Cells = PlainCells
    plan: ClassVar[PlanOptions] = PlanOptions(lr=5e-3, scale_adversarial_loss=5.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(n_epochs_kl_warmup=400, scale_adversarial_loss=5.0)}
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=200)

    def __post_init__(self, adata_seq: AnnData | None, adata_spatial: AnnData | None) -> None:
        for name in ("generative_distributions", "model_library_size"):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or len(values) != len(NAMES):
                raise ArgumentError(f"{name}={values!r} is not allowed: it is a pair, for dissociated and for spatial cells.")
            setattr(self, name, tuple(values))
        if self.setup is None:
            if adata_spatial is None:
                raise SetupError("GIMVI reads two data sets.", "GIMVI(adata_seq, adata_spatial).")
            self.adata = join({"seq": adata_seq, "spatial": adata_spatial}, PlainCells, type(self).__name__)
        else:
            self.adata = None if adata_seq is None else self.source(adata_seq)  # loaded
        super().__post_init__()

    def build(self, setup: Setup) -> GIMVIModule:
        if not setup.whole:
            raise DataError("GIMVI explains counts, and some values are not whole or are negative.", "Name the layer with raw counts.")
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
        origin = self.module.origin.cpu()[self.read()["batch"]]  # type: ignore[index]
        return [np.flatnonzero(origin == d) for d in range(len(NAMES))]

    @classmethod
    def load(cls, folder: str | Path, adata_seq: AnnData | None = None, adata_spatial: AnnData | None = None) -> Self:
        """Open a saved model, with both data sets (given, or those in the folder) or without. No code in the folder is run."""
        return super().load(folder, adata_seq if adata_spatial is None else [adata_seq, adata_spatial])

    check = classmethod(preflight.check_one)
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
