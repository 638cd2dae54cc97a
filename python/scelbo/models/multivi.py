r"""MultiVI: RNA, open chromatin and surface proteins of cells that need not have them all (Ashuach et al., Nature Methods 20:1222, 2023).

doi:10.1038/s41592-023-01909-9. For cell n with covariates :math:`s_n` and the modalities :math:`M_n` that were measured in it,

.. math::
    z_n &\sim N(0, I) \\
    x^{rna}_{ng} &\sim \mathrm{ZINB}(l_n\, \rho_g(z_n, s_n),\, \theta_g,\, \pi_g(z_n, s_n)) \quad\text{as in scVI} \\
    [x^{atac}_{nj} > 0] &\sim \mathrm{Bernoulli}(y_j(z_n, s_n)\, l'_n\, r_j) \quad\text{as in PeakVI} \\
    x^{protein}_{np} &\sim \pi_{np}\, \mathrm{NB}(\beta_{np}, \phi_p) + (1 - \pi_{np})\, \mathrm{NB}(\alpha_{np} \beta_{np}, \phi_p)
        \quad\text{as in totalVI}

Each modality has an encoder :math:`q_m(z \mid x^m) = N(\mu_m, v_m)`. A cell's z is the mean of what its modalities say, with weights
:math:`w_m` that add up to one over :math:`M_n`:

.. math::
    q(z \mid x) = N\bigl(\textstyle\sum_m w_m \mu_m,\ \sum_m w_m^2 v_m\bigr).

Minus the ELBO of what was measured is minimised, plus the divergence of a cell's modalities (Jeffreys: both KL), plus an adversary's
success in telling from z which modalities a cell has. What was not measured is decoded from the z that others gave.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis, transfer
from scelbo.data import Columns, Counts, MultiCells, Setup
from scelbo.errors import DataError
from scelbo.model import Model
from scelbo.module import CountsVAE, Loss
from scelbo.multiome import Explained, Genes, Joint, Latents, Measured, Regions, alone, lacking, pattern, side_by_side
from scelbo.nn import Adversary, Borrowed, GaussianEncoder, Known, Where, norms_of
from scelbo.proteins import Proteins
from scelbo.train.options import PlanOptions, TrainOptions

MODALITIES = {"expression": "x", "accessibility": "atac", "protein": "protein"}  # what users call a modality -> its field


class MULTIVIModule(CountsVAE):
    """The encoders q(z | x) of each modality, their mean, and the decoders of each modality."""

    def __init__(self, model: MULTIVI, setup: Setup):
        sizes = {field: len(setup.features[field]) for field in MODALITIES.values() if field in setup.features}
        super().__init__(**{("n_vars" if field == "x" else field): n for field, n in sizes.items() if field != "protein"})
        self.fields = list(sizes)
        n_latent, self.log_variational = model.n_latent or math.isqrt(model.n_hidden), model.log_variational
        self.on_simplex, self.encode_covariates = model.latent_distribution == "ln", model.encode_covariates
        seen: dict[str, Any] = {"categories": setup.n_categories("batch", "extra"), "n_continuous": setup.n_continuous}
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "activation": "leaky_relu"}
        norms = norms_of(model)
        encoder = {**net, **(seen if model.encode_covariates else {}), "n_layers": model.n_layers_encoder}
        z = {**encoder, **norms["encoder"], "floor": 0.0, "dropout": model.dropout_rate}
        self.z = nn.ModuleDict({field: GaussianEncoder(n, n_latent, **z) for field, n in sizes.items()})
        reader = {**encoder, **norms["encoder"], "deep": model.deeply_inject_covariates}
        decoder = {**net, **norms["decoder"], "n_layers": model.n_layers_decoder, "deep": model.deeply_inject_covariates}
        of_counts = {**decoder, "activation": "relu"}
        self.genes = Genes(
            setup, n_latent, of_counts, seen, model.gene_likelihood, model.dispersion, None if model.use_observed_lib_size else reader
        )
        self.regions = Regions(setup, n_latent, decoder, seen, reader, model.region_factors) if "atac" in sizes else None
        of_proteins = {**of_counts, "deep": True, "dropout": model.dropout_rate, "background_activation": model.background_activation}
        self.proteins = Proteins(setup, n_latent, of_proteins, seen, model.protein_dispersion) if "protein" in sizes else None
        how = (model.modality_weights, model.mixing, model.modality_penalty, model.hide_modalities)
        self.joint = Joint(len(sizes), n_latent, *how)
        self.measured = Measured(self.fields, len(setup.categories["batch"]))
        self.adversary = Adversary(n_latent, 2 ** len(sizes) - 1) if model.adversarial_mixing and not model.fully_paired else None

    def observe(self, data: Columns) -> None:
        super().observe(data)
        has = self.measured.take(data)
        if not self.genes.typical.any():  # a query's model keeps its reference's
            self.genes.take(data, has[:, 0])
            if self.regions is not None:
                self.regions.take(data, has[:, 1])
        if self.proteins is not None:
            self.proteins.take(data["protein"], data["batch"], data["batch"])

    def seen_as(self, x: Counts) -> Counts:
        return x.map(torch.log1p) if self.log_variational else x

    def noise(self, n: int) -> dict[str, Normal]:
        none = Normal(empty := self.genes.typical.new_zeros(n, 0), empty, validate_args=False)
        return {"noise": none if self.proteins is None else self.proteins.noise(n)}

    def read(self, field: str, cells: Any) -> Any:
        """What the encoders of a modality read."""
        if field != "protein":
            return self.seen_of(cells, field)
        return torch.log1p(cells.protein) if self.log_variational else cells.protein

    def inference(self, cells: MultiCells) -> Latents:
        t = cells.numbers if self.encode_covariates else None
        reads = {field: self.read(field, cells) for field in self.fields}
        each = [self.z[field](x, cells, t) for field, x in reads.items()]
        has = self.measured(cells)
        own = side_by_side(each, has)
        log_l = self.genes.log_library(reads["x"], cells, t)
        depth = self.regions.depth(reads["atac"], cells, t) if self.regions is not None else torch.zeros_like(log_l)
        sets = Known(pattern(has)[:, None].float())
        return Latents(self.joint(own, has), own, Known(log_l), Known(depth), sets, **self.noise(len(cells)))

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1) if self.on_simplex else z

    def prior(self, q: Latents, cells: MultiCells) -> Latents:
        return super().prior(q, cells)._replace(own=None)

    @property
    def encoded(self) -> list[str]:
        return [name for name, field in MODALITIES.items() if field in self.fields]

    def by_modality(self, q: Latents, modality: str) -> Normal:
        if modality == "joint":
            return q.z
        return alone(q.own, self.encoded.index(modality))

    def generative(self, z: Any, cells: MultiCells) -> Explained:
        at = self.embed(z.z)
        atac = None if self.regions is None else self.regions(at, z.depth, cells)
        protein = None if self.proteins is None else self.proteins.mixture(self.proteins.decode(at, cells), z.noise, cells)
        return Explained(self.genes(at, z.log_l, cells), atac, protein)

    def generative_of(self, features: Tensor | slice, z: Any, cells: MultiCells, of: str = "x") -> Any:
        if of != "atac" or self.regions is None:
            return None
        lacks = lacking(z.has, self.fields.index(of))
        return self.regions(self.embed(z.z), z.depth, self.measured.stand_in(of, cells), features, lacks)

    def likelihood_of(self, of: str, z: Any, cells: MultiCells) -> Any:
        at, there = self.embed(z.z), self.measured.stand_in(of, cells)
        if of == "x":
            return self.genes(at, z.log_l, there, lacking(z.has, 0))
        return self.generative_of(slice(None), z, cells, of) or self.proteins.imputed(at, z.noise, cells)  # type: ignore[union-attr]

    def borrowed_of(self, of: str) -> Borrowed | None:
        """How what is said of cells without a modality is held back."""
        return getattr({"x": self.genes, "atac": self.regions}.get(of), "borrowed", None)

    def region_factors(self) -> Tensor:
        """r, (regions,)."""
        return self.regions.factors.sigmoid()  # type: ignore[union-attr]

    def measured_in(self, cells: MultiCells, of: str = "x") -> Tensor | None:
        there = self.measured(cells)[:, [self.fields.index(of)]].float()
        mask = self.proteins.mask(cells) if of == "protein" and self.proteins is not None else None
        return there if mask is None else there * mask

    def explained(self, cells: MultiCells, p: Explained) -> dict[str, Tensor]:
        has = self.measured(cells).unbind(1)
        return {name: torch.where(h, getattr(p, name).log_prob(getattr(cells, name)), 0) for name, h in zip(self.fields, has, strict=True)}

    def loss(self, cells: MultiCells, q: Latents, z: Any, p: Explained) -> Loss:
        whole, has = super().loss(cells, q, z, p), self.measured(cells)
        penalty = {"modalities": self.joint.apart(q.own, has).mean()} if self.joint.penalty != "None" else {}
        if self.proteins is not None:
            assert p.protein is not None
            whole.kl["background"] = torch.where(has[:, -1], self.proteins.kl(p.protein, cells), 0)
            penalty["foreground"] = torch.where(has[:, -1], self.proteins.lean(p.protein), 0).mean()
        if self.adversary is not None and self.measured.several:
            penalty |= self.adversary.penalties(z.z, pattern(has), self.measured.patterns)
        return replace(whole, penalty=penalty)

    def log_ratio(self, q: Any, z: Any, cells: MultiCells) -> Tensor:
        ratio, y = super().log_ratio(q, z, cells), self.proteins
        return ratio if y is None else ratio + torch.where(self.measured(cells)[:, -1], y.log_ratio(self.embed(z.z), z.noise, cells), 0)


class MULTIVI(Model):
    """One latent space for cells with RNA, open chromatin, proteins, or some of these: what was not measured is imputed.

    The arguments below are those of ``MULTIVI(adata, ...)``. Those of ``MULTIVI.setup_anndata(adata, ...)``: ``rna_layer, atac_layer,
    protein_expression_obsm_key, protein_names_uns_key, batch_key, labels_key, size_factor_key, categorical_covariate_keys,
    continuous_covariate_keys``; genes and regions stand side by side, and ``var["feature_types"]`` says which is which. A MuData has
    ``rna_layer, atac_layer, protein_layer``. A cell has a modality if it has counts in it.

    Parameters
    ----------
    modality_weights
        What each modality counts for a cell's position: all the same (``"equal"``), learnt once for all cells (``"universal"``), or for
        each cell, read from what its modalities say (``"cell"``).
    modality_penalty
        What keeps the modalities of a cell together: the divergence between their posteriors (``"Jeffreys"``), the distance between their
        means (``"MMD"``), or nothing (``"None"``).
    hide_modalities
        Share of the cells that training places by one modality alone, and explains in all that they have (0 in the paper).
    n_hidden, n_latent
        Sizes; ``n_latent`` is by default the square root of ``n_hidden``.
    n_layers_encoder, n_layers_decoder, dropout_rate
        Hidden layers; share of the encoders' hidden units dropped while training.
    region_factors, gene_likelihood, dispersion, protein_dispersion
        Whether regions have factors r; distribution of RNA counts; what the inverse dispersions theta and phi depend on.
    use_batch_norm, use_layer_norm, latent_distribution
        Where the norms stand; ``"normal"``, or ``"ln"``: z is a point on the simplex.
    deeply_inject_covariates, encode_covariates
        Whether categories enter every layer of the decoders (else the first), and whether the encoders see the covariates.
    fully_paired, adversarial_mixing
        Whether all cells have all modalities; if not, whether an adversary keeps z from telling which they have.
    use_observed_lib_size, log_variational
        Whether the RNA's library size is the cell's total count (else a network reads it); whether the encoders read log(1 + x).
    mixing, background_activation
        How posteriors are mixed and compared: as published, or as scvi-tools does, whose variances are wider; what makes the standard
        deviation of the proteins' log background positive (scvi-tools: ``"exp"``).

    Examples
    --------
    >>> from scelbo import MULTIVI
    >>> from scelbo.data.simulate import multiome
    >>> adata = multiome(n_cells=200, n_genes=50, n_regions=100)
    >>> MULTIVI.setup_anndata(adata, batch_key="batch")
    >>> model = MULTIVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation(modality="expression").shape
    (200, 5)
    """

    modality_weights: Literal["equal", "universal", "cell"] = "equal"
    modality_penalty: Literal["Jeffreys", "MMD", "None"] = "Jeffreys"
    hide_modalities: float = 0.5
    n_hidden: int = 128
    n_latent: int | None = None
    n_layers_encoder: int = 2
    n_layers_decoder: int = 2
    dropout_rate: float = 0.1
    region_factors: bool = True
    gene_likelihood: Literal["zinb", "nb", "poisson"] = "zinb"
    dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene"
    protein_dispersion: Literal["protein", "protein-batch", "protein-label"] = "protein"
    use_batch_norm: Where = "none"
    use_layer_norm: Where = "both"
    latent_distribution: Literal["normal", "ln"] = "normal"
    deeply_inject_covariates: bool = False
    encode_covariates: bool = False
    fully_paired: bool = False
    adversarial_mixing: bool = True
    use_observed_lib_size: bool = True
    log_variational: bool = True
    mixing: Literal["published", "scvi-tools"] = "published"
    background_activation: Literal["softplus", "exp"] = "softplus"

    Cells = MultiCells
    regions = "atac"
    modalities: ClassVar[dict[str, str]] = {"rna": "x", "atac": "atac", "protein": "protein"}
    plan: ClassVar[PlanOptions] = PlanOptions(
        optimizer="AdamW", lr=2e-3, weight_decay=0.3, eps=1e-8, decay="matrices", n_epochs_kl_warmup=50, max_kl_weight=0.1,
        scale_adversarial_loss=1.0, scale_modality_penalty=0.1,
    )  # fmt: skip
    plans: ClassVar[dict[str, PlanOptions]] = {  # "elbo" is the published objective; by default KL and penalty count a tenth
        "elbo": replace(plan, max_kl_weight=1.0, scale_modality_penalty=1.0),
        "scvi-tools": PlanOptions(
            optimizer="AdamW", lr=1e-4, weight_decay=1e-3, eps=1e-8, n_epochs_kl_warmup=50, scale_adversarial_loss=1.0
        ),
    }
    training: ClassVar[TrainOptions] = TrainOptions(
        max_epochs=500, early_stopping=True, early_stopping_patience=50, early_stopping_monitor="reconstruction_loss_validation"
    )

    def build(self, setup: Setup) -> MULTIVIModule:
        if not {"x"} < set(setup.features):
            there = ", ".join(setup.features) or "nothing"
            raise DataError(f"MULTIVI needs genes, and regions or proteins; the setup found {there}.", "SCVI takes genes, PEAKVI regions.")
        if not setup.whole:
            raise DataError("MULTIVI explains counts, and the data hold values that are not whole or are negative.", "Set up raw counts.")
        return MULTIVIModule(self, setup)

    def conclude(self) -> None:
        if self.freeze is None:  # else the reference has been asked
            analysis.borrowing(self)

    get_latent_representation = analysis.latent_representation
    get_normalized_expression = analysis.normalized_expression
    get_normalized_accessibility = analysis.normalized_accessibility
    get_normalized_protein = analysis.normalized_protein
    get_protein_foreground_probability = analysis.protein_foreground_probability
    get_library_size_factors = analysis.factors_by_modality
    get_region_factors = analysis.region_factors
    differential_expression = analysis.differential_expression
    differential_accessibility = analysis.differential_accessibility
    differential_abundance = analysis.differential_abundance
    posterior_predictive_sample = analysis.posterior_predictive_sample
    posterior_predictive_check = analysis.posterior_predictive_check
    get_aggregated_posterior = analysis.aggregated_posterior
    get_latent_kl = analysis.latent_kl
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    get_mapping_score = analysis.mapping_score
    transfer_labels = analysis.transfer_labels
    report = analysis.report
    minify = analysis.minify
    with_data = analysis.with_data
    prepare_query_anndata = classmethod(transfer.prepare_query_anndata)  # type: ignore[var-annotated]
    load_query_data = classmethod(transfer.load_query_data)  # type: ignore[var-annotated]
