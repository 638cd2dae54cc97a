r"""scVI: single-cell variational inference (Lopez et al., Nature Methods 15:1053, 2018, doi:10.1038/s41592-018-0229-2).

For cell n with covariates :math:`s_n` and gene g,

.. math::
    z_n &\sim N(0, I) \\
    l_n &\sim \mathrm{LogNormal}(m_{s_n}, v_{s_n}) \quad\text{or observed: } \textstyle\sum_g x_{ng} \\
    \rho_n &= \mathrm{softmax}\, f(z_n, s_n) \qquad\text{expected proportions} \\
    x_{ng} &\sim \mathrm{ZINB}(l_n \rho_{ng},\, \theta_g,\, \pi_{ng}) \quad\text{or NB, Poisson, Normal}

fitted by maximising the evidence lower bound with :math:`q(z, l \mid x) = N(z)\,\mathrm{LogNormal}(l)`, both amortised. With a size
factor the library size is the size factor and :math:`\rho = \mathrm{softplus}\, f`, which need not sum to one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from scelbo import analysis, transfer
from scelbo.data import Columns, Counts, Setup, SizedCells
from scelbo.errors import DataError
from scelbo.likelihoods import Likelihood, Mean, of_counts
from scelbo.model import Model
from scelbo.module import CountsVAE, Loss
from scelbo.nn import MLP, Activation, GaussianEncoder, Known, LibraryPrior, Linear, PerCategory, Where, for_cells, norms_of, per_feature


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    log_l: Normal | Known  # (cells, 1)


class Explained(NamedTuple):
    """What the model explains: the counts."""

    x: Likelihood


class Decoded(NamedTuple):
    """What the decoder puts out."""

    rho: Tensor  # (..., cells, genes): softmax (or softplus) of it is the expected proportion
    pi: Tensor | None  # logit of a structural zero, of a ZINB
    hidden: Tensor  # what these were made of


class SCVIModule(CountsVAE):
    """The encoder q(z, l | x, s) and the decoder p(x | z, l, s)."""

    def __init__(self, model: SCVI, setup: Setup):
        super().__init__(setup.n_vars)
        self.likelihood, self.dispersion_of = model.gene_likelihood, model.dispersion
        self.log_variational, self.on_simplex = model.log_variational, model.latent_distribution == "ln"
        genes, batches = setup.n_vars, setup.n_categories("batch")
        embedded = model.batch_representation == "embedding"
        self.batch_embedding = PerCategory("batch", batches["batch"], model.batch_embedding_dim) if embedded else None
        categories = setup.n_categories("extra") if embedded else setup.n_categories("batch", "extra")
        seen: dict[str, Any] = {
            "categories": categories,
            "n_continuous": setup.n_continuous + (model.batch_embedding_dim if embedded else 0),
        }
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "deep": model.deeply_inject_covariates, "activation": model.activation}
        norms = norms_of(model)
        encoder: dict[str, Any] = {
            **net,
            **norms["encoder"],
            **(seen if model.encode_covariates else {}),
            "dropout": model.dropout_rate,
        }

        self.z = GaussianEncoder(genes, model.n_latent, n_layers=model.n_layers, var_activation=model.var_activation, **encoder)
        self.size_given = setup.keys.get("size_factor_key") is not None
        known = model.use_observed_lib_size or self.size_given
        self.l = None if known else GaussianEncoder(genes, 1, n_layers=1, var_activation=model.var_activation, **encoder)
        self.l_prior = None if known else LibraryPrior(batches["batch"])
        self.encode_covariates = model.encode_covariates
        n_hidden = self.build_decoder(model, genes, seen, {**net, **norms["decoder"]})
        self.log_theta = per_feature(model.dispersion, genes, setup, n_hidden)

    def build_decoder(self, model: SCVI, genes: int, seen: dict[str, Any], net: dict[str, Any]) -> int:
        """The layers that :meth:`decode` runs through; returns the width of the last hidden one."""
        self.decoder = MLP(model.n_latent, n_layers=model.n_layers, **net, **seen)
        self.rho = Linear(model.n_hidden, genes)
        self.pi = Linear(model.n_hidden, genes) if model.gene_likelihood == "zinb" else None
        return model.n_hidden

    def decode(self, z: Tensor, cells: SizedCells, zeros: bool = True) -> Decoded:
        """From a point of the latent space that users see to the likelihood's parameters; ``zeros``: also that of structural zeros."""
        h = self.decoder(z, cells, self.covariates(cells))
        return Decoded(self.rho(h), self.pi(h) if self.pi and zeros else None, h)

    def covariates(self, cells: SizedCells) -> Tensor | None:
        """Continuous covariates (cells, k): those given, and the embedded batch."""
        parts = [t for t in (cells.numbers, self.batch_embedding(cells) if self.batch_embedding else None) if t is not None]
        return torch.cat(parts, -1) if parts else None

    def inference(self, cells: SizedCells) -> Latents:
        x = self.seen(cells)
        t = self.covariates(cells) if self.encode_covariates else None
        if self.size_given:
            log_l: Normal | Known = Known(cells.size.log())  # type: ignore[union-attr]
        else:
            log_l = Known(cells.x.size.log()) if self.l is None else self.l(x, cells, t)
        return Latents(self.z(x, cells, t), log_l)

    def encode_z(self, cells: SizedCells) -> Normal:
        return self.z(self.seen(cells), cells, self.covariates(cells) if self.encode_covariates else None)

    def seen_as(self, x: Counts) -> Counts:
        return x.map(torch.log1p) if self.log_variational else x

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1) if self.on_simplex else z

    def observe(self, data: Columns) -> None:
        super().observe(data)
        if self.l_prior is not None:
            self.l_prior.take(data["x"].size, data["batch"])

    def prior(self, q: Latents, cells: SizedCells) -> Latents:
        p = super().prior(q, cells)
        return p if self.l_prior is None else p._replace(log_l=self.l_prior.of(cells))

    def generative(self, z: Any, cells: SizedCells) -> Explained:
        decoded = self.decode(self.embed(z.z), cells)
        rate = self.rate(decoded, z)
        return Explained(of_counts(self.likelihood, rate, self.dispersion(decoded, z, cells), decoded.pi))

    def rate(self, decoded: Decoded, z: Any) -> Mean:
        """The mean of the counts."""
        return Mean(decoded.rho, z.log_l, "softplus" if self.size_given else "softmax")

    def scale_of(self, of: str, z: Any, cells: SizedCells, out: Tensor | None = None) -> Tensor:
        rate = self.rate(self.decode(self.embed(z.z), cells, zeros=False), z)
        return rate.scale if rate.link != "softmax" or rate.among is not None else torch.softmax(rate.h, -1, out=out)

    def dispersion(self, decoded: Decoded, z: Any, cells: SizedCells) -> Float[Tensor, "*s #cells genes"]:
        """log theta (or log sigma): one a gene, a gene and batch, a gene and label, or a gene and cell."""
        return for_cells(self.log_theta, cells, decoded.hidden)

    def loss(self, cells: SizedCells, q: Latents, z: Any, p: Explained) -> Loss:
        """Minus the ELBO; the KL of the library size is never annealed, as its prior comes from the data."""
        whole = super().loss(cells, q, z, p)
        return replace(whole, kl={"z": whole.kl["z"]}, kl_fixed={k: v for k, v in whole.kl.items() if k != "z"})


class SCVI(Model):
    """Latent space, batch correction, denoised expression and differential expression from raw counts.

    The arguments below are those of ``SCVI(adata, ...)``. Those of ``SCVI.setup_anndata(adata, ...)``: ``layer, batch_key,
    labels_key, size_factor_key, categorical_covariate_keys, continuous_covariate_keys``.

    Parameters
    ----------
    n_hidden
        Units in a hidden layer.
    n_latent
        Dimensions of z.
    n_layers
        Hidden layers of encoder and decoder.
    dropout_rate
        Share of the encoder's hidden units dropped while training.
    dispersion
        What the inverse dispersion theta depends on.
    gene_likelihood
        Distribution of the counts; ``"normal"`` is for values that are not counts.
    use_observed_lib_size
        Whether the library size is the cell's total count (else a latent variable with a prior for each batch).
    latent_distribution
        ``"normal"``, or ``"ln"``: z is a point on the simplex.
    log_variational
        Whether the encoder reads log(1 + x).
    encode_covariates
        Whether the encoder sees the covariates.
    deeply_inject_covariates
        Whether categories enter every layer (else the first).
    use_batch_norm, use_layer_norm
        Where the norms stand.
    batch_representation, batch_embedding_dim
        Batches as one-hot codes, or as learnt vectors of this length.
    var_activation
        Makes the encoder's variance positive.
    activation
        Activation of the hidden layers.

    Examples
    --------
    >>> from scelbo import SCVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = SCVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> adata.obsm["X_scVI"] = model.get_latent_representation()
    >>> adata.obsm["X_scVI"].shape
    (200, 5)
    """

    n_hidden: int = 128
    n_latent: int = 10
    n_layers: int = 1
    dropout_rate: float = 0.1
    dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene"
    gene_likelihood: Literal["zinb", "nb", "poisson", "normal"] = "zinb"
    use_observed_lib_size: bool = True
    latent_distribution: Literal["normal", "ln"] = "normal"
    log_variational: bool = True
    encode_covariates: bool = False
    deeply_inject_covariates: bool = True
    use_batch_norm: Where = "both"
    use_layer_norm: Where = "none"
    batch_representation: Literal["one-hot", "embedding"] = "one-hot"
    batch_embedding_dim: int = 5
    var_activation: Literal["exp", "softplus"] = "exp"
    activation: Activation = "relu"

    Cells = SizedCells
    Module: ClassVar[type[SCVIModule]] = SCVIModule
    """The maths: subclasses change it and keep the rest."""

    def build(self, setup: Setup) -> SCVIModule:
        if not setup.whole and self.gene_likelihood != "normal":
            raise DataError(
                f"gene_likelihood={self.gene_likelihood!r} explains counts, and the data hold values that are not whole or are negative.",
                "Set up the layer with raw counts, or choose gene_likelihood='normal'.",
            )
        return self.Module(self, setup)

    get_latent_representation = analysis.latent_representation
    get_latent_library_size = analysis.latent_library_size
    get_batch_representation = analysis.batch_representation
    get_normalized_expression = analysis.normalized_expression
    get_likelihood_parameters = analysis.likelihood_parameters
    get_feature_correlation_matrix = analysis.feature_correlation_matrix
    posterior_predictive_sample = analysis.posterior_predictive_sample
    posterior_predictive_check = analysis.posterior_predictive_check
    get_aggregated_posterior = analysis.aggregated_posterior
    minify = analysis.minify
    with_data = analysis.with_data
    get_mapping_score = analysis.mapping_score
    transfer_labels = analysis.transfer_labels
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    get_latent_kl = analysis.latent_kl
    report = analysis.report
    differential_expression = analysis.differential_expression
    differential_abundance = analysis.differential_abundance
    prepare_query_anndata = classmethod(transfer.prepare_query_anndata)  # type: ignore[var-annotated]
    load_query_data = classmethod(transfer.load_query_data)  # type: ignore[var-annotated]
