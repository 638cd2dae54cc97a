r"""PeakVI: open chromatin of single cells (Ashuach et al., Cell Reports Methods 2:100182, 2022, doi:10.1016/j.crmeth.2022.100182).

For cell n with covariates :math:`s_n` and region j,

.. math::
    z_n &\sim N(0, I) \\
    y_{nj} &= \sigma(g_j(z_n, s_n)) \qquad\text{how often the region is open in cells like this one} \\
    l_n &= \sigma(f(x_n)) \qquad\text{how much of what is open was seen in the cell} \\
    r_j &\in (0, 1) \qquad\text{how readily the region is seen} \\
    [x_{nj} > 0] &\sim \mathrm{Bernoulli}(y_{nj}\, l_n\, r_j)

with :math:`q(z \mid x)` a diagonal normal from an encoder, and f a network of its own without uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis, transfer
from scelbo.data import Cells, Setup
from scelbo.likelihoods import Accessibility
from scelbo.model import Model
from scelbo.module import CountsVAE
from scelbo.nn import MLP, ConditionalLinear, GaussianEncoder, Known, PointEncoder, Where, affine, norms_of
from scelbo.train.options import PlanOptions, TrainOptions


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    depth: Known  # (cells, 1): logit of the cell factor l


class Explained(NamedTuple):
    """What the model explains: which regions were seen."""

    x: Accessibility


class PEAKVIModule(CountsVAE):
    """The encoder q(z | x, s), the cell factor l(x), and the decoder p(x | z, l, s)."""

    def __init__(self, model: PEAKVI, setup: Setup):
        super().__init__(setup.n_vars)
        regions = setup.n_vars
        n_hidden = model.n_hidden or int(math.sqrt(regions))
        n_latent = model.n_latent or int(math.sqrt(n_hidden))
        self.on_simplex = model.latent_distribution == "ln"
        seen: dict[str, Any] = {"categories": setup.n_categories("batch", "extra"), "n_continuous": setup.n_continuous}
        net: dict[str, Any] = {"n_hidden": n_hidden, "deep": model.deeply_inject_covariates, "activation": "leaky_relu"}
        norms = norms_of(model)
        encoder = {**net, **norms["encoder"], **(seen if model.encode_covariates else {}), "n_layers": model.n_layers_encoder}
        self.encode_covariates = model.encode_covariates
        self.z = GaussianEncoder(regions, n_latent, floor=1e-8, dropout=model.dropout_rate, **{**encoder, "deep": True})
        point = {**encoder, "deep": False, "batch_norm": False, "layer_norm": True}
        self.depth = PointEncoder(regions, 1, **point) if model.model_depth else None
        self.r = nn.ParameterDict({"all": nn.Parameter(torch.zeros(regions))}) if model.region_factors else None
        self.decoder = MLP(n_latent, n_layers=model.n_layers_decoder, **net, **norms["decoder"], **seen)
        self.y = ConditionalLinear(n_hidden, regions)
        self.certain: Tensor
        self.register_buffer("certain", torch.full((1,), torch.inf), persistent=False)  # logit of a factor of one

    def inference(self, cells: Cells) -> Latents:
        x = self.seen(cells)
        t = cells.numbers if self.encode_covariates else None
        depth = self.certain.expand(len(cells), 1) if self.depth is None else self.depth(x, cells, t)
        return Latents(self.z(x, cells, t), Known(depth))

    def encode_z(self, cells: Cells) -> Normal:
        return self.z(self.seen(cells), cells, cells.numbers if self.encode_covariates else None)

    def posterior_of_scale(self, cells: Cells) -> Latents:
        return Latents(self.place(cells), Known(self.certain.expand(len(cells), 1)))

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1) if self.on_simplex else z

    def region_factors(self) -> Tensor:
        """r, (regions,)."""
        return torch.ones_like(self.input_mean) if self.r is None else self.r["all"].sigmoid()

    def generative(self, z: Any, cells: Cells) -> Explained:
        return Explained(self.generative_of(slice(None), z, cells))

    def logits(self, features: Tensor | slice, z: Tensor, cells: Cells) -> Tensor:
        """Of y, for some regions."""
        hidden = self.decoder(self.embed(z), cells, cells.numbers)
        return affine(hidden, self.y.weight[:, features], self.y.bias[features])  # type: ignore[index]

    def scale_of(self, of: str, z: Any, cells: Cells, out: Tensor | None = None) -> Tensor:
        logits = self.logits(slice(None), z.z, cells)
        return logits.sigmoid_() if out is None else torch.sigmoid(logits, out=out)

    def generative_of(self, features: Tensor | slice, z: Any, cells: Cells, of: str = "x") -> Accessibility:
        h = self.logits(features, z.z, cells)
        region = self.certain.expand(h.shape[-1]) if self.r is None else self.r["all"][features]
        depth = z.depth[0] if z.depth.dim() > 2 else z.depth  # it has no draws
        return Accessibility(h, depth, region)


class PEAKVI(Model):
    """Latent space, batch correction, denoised accessibility and differential accessibility from fragments or reads in regions.

    The arguments below are those of ``PEAKVI(adata, ...)``. Those of ``PEAKVI.setup_anndata(adata, ...)``: ``layer, batch_key,
    labels_key, categorical_covariate_keys, continuous_covariate_keys``.

    Parameters
    ----------
    n_hidden
        Units in a hidden layer; by default the square root of the number of regions.
    n_latent
        Dimensions of z; by default the square root of ``n_hidden``.
    n_layers_encoder, n_layers_decoder
        Hidden layers.
    dropout_rate
        Share of the encoder's hidden units dropped while training.
    model_depth
        Whether cells have factors l (else 1).
    region_factors
        Whether regions have factors r (else 1).
    use_batch_norm, use_layer_norm
        Where the norms stand.
    latent_distribution
        ``"normal"``, or ``"ln"``: z is a point on the simplex.
    deeply_inject_covariates
        Whether categories enter every layer of the decoder (else the first).
    encode_covariates
        Whether the encoders see the covariates (that of z in every layer, that of l in the first).

    Examples
    --------
    >>> from scelbo import PEAKVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=100)
    >>> PEAKVI.setup_anndata(adata, batch_key="batch")
    >>> model = PEAKVI(adata)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (200, 3)
    """

    n_hidden: int | None = None
    n_latent: int | None = None
    n_layers_encoder: int = 2
    n_layers_decoder: int = 2
    dropout_rate: float = 0.1
    model_depth: bool = True
    region_factors: bool = True
    use_batch_norm: Where = "none"
    use_layer_norm: Where = "both"
    latent_distribution: Literal["normal", "ln"] = "normal"
    deeply_inject_covariates: bool = False
    encode_covariates: bool = False

    Cells = Cells
    plan: ClassVar[PlanOptions] = PlanOptions(
        optimizer="AdamW", lr=2e-3, weight_decay=0.3, decay="matrices", n_epochs_kl_warmup=50, max_kl_weight=0.1
    )
    plans: ClassVar[dict[str, PlanOptions]] = {
        "elbo": replace(plan, max_kl_weight=1.0),
        "scvi-tools": PlanOptions(optimizer="AdamW", lr=1e-4, weight_decay=1e-3, eps=1e-8, n_epochs_kl_warmup=50, max_kl_weight=1 / 128),
    }
    """``"elbo"`` minimises the published objective; scvi-tools counts the reconstruction as often as there are cells in a minibatch."""
    training: ClassVar[TrainOptions] = TrainOptions(
        max_epochs=500, early_stopping=True, early_stopping_patience=50, early_stopping_monitor="reconstruction_loss_validation"
    )

    def build(self, setup: Setup) -> PEAKVIModule:
        return PEAKVIModule(self, setup)

    get_latent_representation = analysis.latent_representation
    get_normalized_accessibility = analysis.normalized_accessibility
    get_library_size_factors = analysis.library_size_factors
    get_region_factors = analysis.region_factors
    differential_accessibility = analysis.differential_accessibility
    get_aggregated_posterior = analysis.aggregated_posterior
    get_latent_kl = analysis.latent_kl
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    posterior_predictive_sample = analysis.posterior_predictive_sample
    posterior_predictive_check = analysis.posterior_predictive_check
    differential_abundance = analysis.differential_abundance
    get_mapping_score = analysis.mapping_score
    transfer_labels = analysis.transfer_labels
    minify = analysis.minify
    with_data = analysis.with_data
    report = analysis.report
    prepare_query_anndata = classmethod(transfer.prepare_query_anndata)  # type: ignore[var-annotated]
    load_query_data = classmethod(transfer.load_query_data)  # type: ignore[var-annotated]
