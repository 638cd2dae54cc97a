r"""totalVI: RNA and surface proteins of the same cells (Gayoso et al., Nature Methods 18:272, 2021, doi:10.1038/s41592-020-01050-x).

For cell n with covariates :math:`s_n`, gene g and protein p,

.. math::
    z_n &\sim N(0, I) \\
    x_{ng} &\sim \mathrm{NB}(l_n \rho_{ng},\, \theta_g), \qquad \rho_n = \mathrm{softmax}\, f(z_n, s_n) \quad\text{as in scVI} \\
    \beta_{np} &\sim \mathrm{LogNormal}(c_{pb},\, d_{pb}) \qquad\text{background, its prior for each batch (or panel) b} \\
    y_{np} &\sim \pi_{np}\, \mathrm{NB}(\beta_{np}, \phi_p) + (1 - \pi_{np})\, \mathrm{NB}(\alpha_{np} \beta_{np}, \phi_p)

with the foreground factor :math:`\alpha = 1 + \mathrm{relu}\, g(z, s)`, the probability of background :math:`\pi = \sigma(h(z, s))`, and
:math:`q(z, \beta \mid x, y) = q(z \mid x, y)\, q(\beta \mid z, s)`. A protein without a single count in a batch was not measured there: it
is left out of the likelihood, and an adversary keeps z from telling by it where a cell comes from. Where :math:`\alpha = 1`, where no count
tells background from foreground, a thousandth of :math:`-\log \pi` makes it background.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

from scelbo import analysis, transfer
from scelbo.data import Beside, Columns, Counts, Setup, SizedCells, category, counts, table
from scelbo.errors import DataError
from scelbo.likelihoods import Likelihood, Mean, ProteinMixture, of_counts
from scelbo.model import Model
from scelbo.module import CountsVAE, Loss
from scelbo.nn import (
    MLP,
    Adversary,
    ConditionalLinear,
    GaussianEncoder,
    Known,
    LibraryPrior,
    Where,
    for_cells,
    norms_of,
    per_feature,
)
from scelbo.proteins import Proteins
from scelbo.train.options import PlanOptions, TrainOptions


class ProteinCells(SizedCells):
    """Cells with proteins."""

    x: Counts = counts("layer", mudata="rna_layer")
    protein: Tensor = table("protein_expression_obsm_key", names="protein_names_uns_key", mudata="protein_layer", required=True)
    panel: Tensor = category("panel_key")


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    log_l: Normal | Known  # (cells, 1)
    noise: Normal  # (cells, proteins), of the background


class Explained(NamedTuple):
    """What the model explains."""

    x: Likelihood
    protein: ProteinMixture


class TOTALVIModule(CountsVAE):
    """The encoder q(z, l | x, y, s) and the decoders p(x | z, l, s), p(y | z, beta, s)."""

    def __init__(self, model: TOTALVI, setup: Setup):
        super().__init__(setup.n_vars)
        genes, proteins, batches = setup.n_vars, len(setup.features["protein"]), setup.n_categories("batch")["batch"]
        self.likelihood, self.log_variational = model.gene_likelihood, model.log_variational
        self.relative = model.encoder_reads == "relative"
        self.on_simplex = model.latent_distribution == "ln"
        seen: dict[str, Any] = {"categories": setup.n_categories("batch", "extra"), "n_continuous": setup.n_continuous}
        norms, deep = norms_of(model), model.deeply_inject_covariates
        self.encode_covariates = model.encode_covariates
        encoder: dict[str, Any] = {**norms["encoder"], **(seen if model.encode_covariates else {}), "deep": deep}
        encoder |= {"n_hidden": model.n_hidden, "n_layers": model.n_layers_encoder, "dropout": model.dropout_rate_encoder}
        self.z = GaussianEncoder(genes + proteins, model.n_latent, **encoder)
        self.size_given = setup.keys.get("size_factor_key") is not None
        known = model.use_observed_lib_size or self.size_given
        self.l = None if known else GaussianEncoder(genes + proteins, 1, **{**encoder, "n_layers": 1})
        self.l_prior = None if known else LibraryPrior(batches)
        decoder: dict[str, Any] = {"n_hidden": model.n_hidden, "n_layers": model.n_layers_decoder, "dropout": model.dropout_rate_decoder}
        decoder |= {**norms["decoder"], "deep": deep}
        self.decoder = MLP(model.n_latent, **decoder, **seen)
        of_genes = lambda: ConditionalLinear(model.n_hidden + model.n_latent, genes, **seen)  # noqa: E731
        self.rho = of_genes()
        of_proteins = decoder | {"background_activation": model.background_activation}
        self.proteins = Proteins(
            setup, model.n_latent, of_proteins, seen, model.protein_dispersion, empirical=model.empirical_protein_background_prior,
            override_missing=model.override_missing_proteins, efficiency=model.protein_efficiency,
        )  # fmt: skip
        self.pi = of_genes() if model.gene_likelihood == "zinb" else None
        self.log_theta = per_feature(model.gene_dispersion, genes, setup, model.n_hidden + model.n_latent)
        wanted = batches > 1 and model.adversarial_classifier is not False
        self.adversary = Adversary(model.n_latent, batches) if wanted else None
        self.always = model.adversarial_classifier is True

    # ------------------------------------------------------------------ from the data
    def observe(self, data: Columns) -> None:
        super().observe(data)
        if self.l_prior is not None:
            self.l_prior.take(data["x"].size, data["batch"])
        self.proteins.take(data["protein"], data["batch"], data[self.proteins.panel])

    # ------------------------------------------------------------------ q and p
    def seen_as(self, x: Counts) -> Counts:
        read = x.scaled(1 / (1 + x.size / x.n_measured)) if self.relative else x
        return read.map(torch.log1p) if self.log_variational else read

    def noise(self, n: int) -> dict[str, Normal]:
        return {"noise": self.proteins.noise(n)}

    def inference(self, cells: ProteinCells) -> Latents:
        y = cells.protein / (1 + cells.protein.mean(-1, keepdim=True)) if self.relative else cells.protein
        read = Beside(self.seen(cells), torch.log1p(y) if self.log_variational else y)
        t = cells.numbers if self.encode_covariates else None
        if self.size_given:
            log_l: Normal | Known = Known(cells.size.log())  # type: ignore[union-attr]
        else:
            log_l = Known(cells.x.size.log()) if self.l is None else self.l(read, cells, t)
        return Latents(self.z(read, cells, t), log_l, **self.noise(len(cells)))

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1) if self.on_simplex else z

    def prior(self, q: Any, cells: ProteinCells) -> Any:
        p = super().prior(q, cells)
        return p if self.l_prior is None else p._replace(log_l=self.l_prior.of(cells))

    def generative(self, z: Any, cells: ProteinCells) -> Explained:
        at = self.embed(z.z)
        decoded = self.proteins.decode(at, cells)
        return Explained(self.rna(at, z.log_l, cells, decoded.hidden), self.proteins.mixture(decoded, z.noise, cells))

    def rna(self, at: Tensor, log_l: Tensor, cells: ProteinCells, mixed: Tensor | None) -> Likelihood:
        """p(x | z, l, s); ``mixed``: the hidden layer of the proteins' mixing, which structural zeros are made of too."""
        t = cells.numbers
        hidden = torch.cat([self.decoder(at, cells, t), at], -1)
        rate = Mean(self.rho(hidden, cells, t), log_l, "softplus" if self.size_given else "softmax")
        pi = self.pi(mixed, cells, t) if self.pi else None
        return of_counts(self.likelihood, rate, for_cells(self.log_theta, cells, hidden), pi)

    def likelihood_of(self, of: str, z: Any, cells: ProteinCells) -> Any:
        at = self.embed(z.z)
        if of == "protein":
            return self.proteins.imputed(at, z.noise, cells)
        return self.rna(at, z.log_l, cells, self.proteins.decode(at, cells).hidden if self.pi else None)

    def measured_in(self, cells: ProteinCells, of: str = "x") -> Tensor | None:
        return self.proteins.measured(cells) if of == "protein" and self.proteins.some_missing else None

    def loss(self, cells: ProteinCells, q: Latents, z: Any, p: Explained) -> Loss:
        whole = super().loss(cells, q, z, p)
        fixed = {name: kl for name, kl in whole.kl.items() if name != "z"}
        penalty = {"foreground": self.proteins.lean(p.protein).mean(), **self.proteins.penalties(cells)}
        if self.adversary is not None and (self.always or self.proteins.some_missing):
            penalty |= self.adversary.penalties(self.embed(z.z), cells.batch)
        return replace(whole, kl={"z": whole.kl["z"], "background": self.proteins.kl(p.protein, cells)}, kl_fixed=fixed, penalty=penalty)

    def log_ratio(self, q: Any, z: Any, cells: ProteinCells) -> Tensor:
        return super().log_ratio(q, z, cells) + self.proteins.log_ratio(self.embed(z.z), z.noise, cells)


class TOTALVI(Model):
    """Joint latent space of RNA and surface proteins: denoised and imputed proteins free of background, differential tests of both.

    The arguments below are those of ``TOTALVI(adata, ...)``. Those of ``TOTALVI.setup_anndata(adata, ...)``: ``protein_expression_obsm_key,
    protein_names_uns_key, layer, batch_key, panel_key, labels_key, size_factor_key, categorical_covariate_keys,
    continuous_covariate_keys``; a MuData has ``rna_layer`` and ``protein_layer``. A protein that has no count in a batch was not measured
    there.

    Parameters
    ----------
    n_latent
        Dimensions of z.
    n_hidden, n_layers_encoder, n_layers_decoder
        Units in a hidden layer, and how many of these.
    dropout_rate_encoder, dropout_rate_decoder
        Share of the hidden units dropped while training.
    gene_dispersion, protein_dispersion
        What the inverse dispersions theta and phi depend on.
    gene_likelihood
        Distribution of the RNA counts.
    latent_distribution
        ``"normal"``, or ``"ln"``: z is a point on the simplex.
    empirical_protein_background_prior
        Whether the background's prior starts from mixtures fitted to cells; None: with more than 10 proteins.
    override_missing_proteins
        Take proteins without counts in a batch for measured: absent from all its cells.
    protein_efficiency
        Whether each batch may stain each protein more or less than others do.
    adversarial_classifier
        Whether an adversary guesses batches from z; None: where proteins are missing in some batch.
    use_observed_lib_size
        Whether the library size is the cell's total RNA count (else a latent variable with a prior for each batch).
    log_variational
        Whether the encoder reads log(1 + r) of r = x / (1 + mean of the cell), for genes and for proteins (else r).
    encoder_reads
        r as above (``"relative"``), or the counts themselves (``"counts"``, as scvi-tools had it before 1.3.1).
    background_activation
        Makes the standard deviation of the log background positive (``"exp"``: scvi-tools before 1.2).
    encode_covariates
        Whether the encoder sees the covariates.
    deeply_inject_covariates
        Whether categories enter every layer (else the first).
    use_batch_norm, use_layer_norm
        Where the norms stand.

    Examples
    --------
    >>> from scelbo import TOTALVI
    >>> from scelbo.data.simulate import cite
    >>> adata = cite(n_cells=200, n_genes=50)
    >>> TOTALVI.setup_anndata(adata, protein_expression_obsm_key="protein_expression", batch_key="batch")
    >>> model = TOTALVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> rna, protein = model.get_normalized_expression()
    >>> protein.shape
    (200, 6)
    """

    n_latent: int = 20
    n_hidden: int = 128
    n_layers_encoder: int = 2
    n_layers_decoder: int = 1
    dropout_rate_encoder: float = 0.2
    dropout_rate_decoder: float = 0.2
    gene_dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene"
    protein_dispersion: Literal["protein", "protein-batch", "protein-label"] = "protein"
    gene_likelihood: Literal["nb", "zinb", "poisson"] = "nb"
    latent_distribution: Literal["normal", "ln"] = "normal"
    empirical_protein_background_prior: bool | None = None
    override_missing_proteins: bool = False
    protein_efficiency: bool = False
    adversarial_classifier: bool | None = None
    use_observed_lib_size: bool = True
    log_variational: bool = True
    encoder_reads: Literal["relative", "counts"] = "relative"
    background_activation: Literal["softplus", "exp"] = "softplus"
    encode_covariates: bool = True
    deeply_inject_covariates: bool = True
    use_batch_norm: Where = "both"
    use_layer_norm: Where = "none"

    Cells = ProteinCells
    modalities: ClassVar[dict[str, str]] = {"rna": "x", "protein": "protein"}
    plan: ClassVar[PlanOptions] = PlanOptions(
        lr=4e-3, max_kl_weight=0.1, reduce_lr_on_plateau=True, lr_scheduler_metric="reconstruction_loss_validation"
    )
    plans: ClassVar[dict[str, PlanOptions]] = {
        "elbo": replace(plan, max_kl_weight=1.0, lr_scheduler_metric="elbo_validation"),
        "scvi-tools": PlanOptions(lr=4e-3, n_epochs_kl_warmup=213, reduce_lr_on_plateau=True),
    }
    """``"elbo"`` minimises the published objective. scvi-tools warms up over 3/4 as many steps as there are cells: 213 epochs."""
    training: ClassVar[TrainOptions] = TrainOptions(
        batch_size=256, early_stopping=True, early_stopping_monitor="reconstruction_loss_validation"
    )

    def build(self, setup: Setup) -> TOTALVIModule:
        if not setup.whole:
            raise DataError("TOTALVI explains counts, and the data hold values that are not whole or are negative.", "Set up raw counts.")
        return TOTALVIModule(self, setup)

    get_latent_representation = analysis.latent_representation
    get_latent_library_size = analysis.latent_library_size
    get_normalized_expression = analysis.normalized_rna_and_protein
    get_protein_foreground_probability = analysis.protein_foreground_probability
    get_protein_background_mean = analysis.protein_background_mean
    get_likelihood_parameters = analysis.likelihood_parameters
    get_feature_correlation_matrix = analysis.feature_correlation_matrix
    posterior_predictive_sample = analysis.posterior_predictive_sample
    posterior_predictive_check = analysis.posterior_predictive_check
    differential_expression = analysis.differential_rna_and_protein
    differential_abundance = analysis.differential_abundance
    get_aggregated_posterior = analysis.aggregated_posterior
    get_mapping_score = analysis.mapping_score
    transfer_labels = analysis.transfer_labels
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    get_latent_kl = analysis.latent_kl
    minify = analysis.minify
    with_data = analysis.with_data
    report = analysis.report
    prepare_query_anndata = classmethod(transfer.prepare_query_anndata)  # type: ignore[var-annotated]
    load_query_data = classmethod(transfer.load_query_data)  # type: ignore[var-annotated]
