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

Minus the ELBO of what was measured is minimised, plus the divergence between what the modalities of one cell say (Jeffreys:
:math:`KL(q_m \| q_k) + KL(q_k \| q_m)`), plus an adversary's success in telling from z which modalities a cell has. So a modality is
imputed by decoding the z that others gave.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis, transfer
from scelbo.data import Columns, Counts, Setup, SizedCells, counts, table
from scelbo.errors import ArgumentError, DataError
from scelbo.likelihoods import Accessibility, Likelihood, ProteinMixture
from scelbo.model import Model
from scelbo.module import CountsVAE, Loss
from scelbo.multiome import Genes, Joint, Regions
from scelbo.nn import Adversary, GaussianEncoder, Known, PerCategory, Where, norms_of
from scelbo.proteins import Proteins
from scelbo.train.options import PlanOptions, TrainOptions

MODALITIES = {"expression": "x", "accessibility": "atac", "protein": "protein"}
"""What users call a modality -> its field."""


class MultiCells(SizedCells):
    """Cells with genes, regions and proteins, each of which a cell may lack."""

    x: Counts = counts("rna_layer", types=("Gene Expression",), may_lack=True)
    atac: Counts | None = counts("atac_layer", types=("Peaks",), may_lack=True)
    protein: Tensor | None = table("protein_expression_obsm_key", names="protein_names_uns_key", mudata="protein_layer", may_lack=True)


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent)
    own: Normal  # (cells, modalities, n_latent): by each modality alone; N(0, I), which says nothing, where the cell lacks it
    log_l: Known  # (cells, 1): log library size of the RNA
    depth: Known  # (cells, 1): logit of the factor l' of what is open
    noise: Normal  # (cells, proteins), of the background


class Explained(NamedTuple):
    """What the model explains."""

    x: Likelihood
    atac: Accessibility | None = None
    protein: ProteinMixture | None = None


class MULTIVIModule(CountsVAE):
    """The encoders q(z | x) of each modality, their mean, and the decoders of each modality."""

    def __init__(self, model: MULTIVI, setup: Setup):
        sizes = {field: len(setup.features[field]) for field in MODALITIES.values() if field in setup.features}
        super().__init__(**{("n_vars" if field == "x" else field): n for field, n in sizes.items() if field != "protein"})
        self.fields = list(sizes)
        n_hidden = model.n_hidden or min(128, math.isqrt(sizes.get("atac", 128**2)))
        n_latent = model.n_latent or math.isqrt(n_hidden)
        self.modality_dropout = model.modality_dropout
        self.log_variational, self.on_simplex = model.log_variational, model.latent_distribution == "ln"
        seen: dict[str, Any] = {"categories": setup.n_categories("batch", "extra"), "n_continuous": setup.n_continuous}
        net: dict[str, Any] = {"n_hidden": n_hidden, "activation": "leaky_relu"}
        norms = norms_of(model)
        encoder = {**net, **(seen if model.encode_covariates else {}), "n_layers": model.n_layers_encoder}
        self.encode_covariates = model.encode_covariates
        z = {**encoder, **norms["encoder"], "floor": 0.0, "dropout": model.dropout_rate}
        self.z = nn.ModuleDict({field: GaussianEncoder(n, n_latent, **z) for field, n in sizes.items()})
        reader = {**encoder, **norms["encoder"], "deep": model.deeply_inject_covariates}
        decoder = {**net, **norms["decoder"], "n_layers": model.n_layers_decoder, "deep": model.deeply_inject_covariates}
        of_counts = {**decoder, "activation": "relu"}
        self.genes = Genes(
            setup, n_latent, of_counts, seen, model.gene_likelihood, model.dispersion, None if model.use_observed_lib_size else reader
        )
        self.regions = Regions(setup, n_latent, decoder, seen, reader, model.region_factors) if "atac" in sizes else None
        of_proteins = {**of_counts, "deep": True, "dropout": model.dropout_rate}
        self.proteins = Proteins(setup, n_latent, of_proteins, seen, model.protein_dispersion) if "protein" in sizes else None
        m = len(self.fields)
        self.joint = Joint(m, n_latent, model.modality_weights, model.mixing, model.modality_penalty)
        self.seen_in = PerCategory("batch", len(setup.categories["batch"]), m, learns=False)  # how many cells have each modality
        self.seen_in.table.data.zero_()
        self.adversary = Adversary(n_latent, 2**m - 1) if model.adversarial_mixing and not model.fully_paired else None
        self.patterns: Tensor
        self.register_buffer("patterns", torch.zeros(2**m - 1, dtype=torch.bool))  # which sets of modalities cells have

    # ------------------------------------------------------------------ from the data
    def has(self, cells: Any) -> Tensor:
        """Which modalities were measured in each cell, (cells, modalities)."""
        return torch.stack([_total(getattr(cells, field)) > 0 for field in self.fields], 1)

    @staticmethod
    def pattern(has: Tensor) -> Tensor:
        """The number of each cell's set of modalities, from 0."""
        return (has * 2 ** torch.arange(has.shape[1], device=has.device)).sum(1) - 1

    def observe(self, data: Columns) -> None:
        super().observe(data)
        has = torch.stack([_total(data[field]) > 0 for field in self.fields], 1)
        self.patterns[self.pattern(has)] = True
        for b in data["batch"].unique():
            self.seen_in.set_row(int(b), has[data["batch"] == b].sum(0).float())
        if not self.genes.typical.any():
            self.genes.take(data["x"].size[has[:, 0]])
        if self.proteins is not None:
            self.proteins.take(data["protein"], data["batch"], data["batch"])

    def as_measured(self, of: str, cells: Any) -> Any:
        """The cells, those of a batch in which no cell has this modality as if they were of the batch in which most cells have it.

        Nothing is known of what such a batch does to it.
        """
        known = self.seen_in.rows()[:, self.fields.index(of)]
        return cells.replace({"batch": torch.where(known[cells.batch] > 0, cells.batch, known.argmax())})

    # ------------------------------------------------------------------ q
    def seen_as(self, x: Counts) -> Counts:
        return x.map(torch.log1p) if self.log_variational else x

    def noise(self, n: int) -> dict[str, Normal]:
        if self.proteins is not None:
            return {"noise": self.proteins.noise(n)}
        return {"noise": Normal(self.patterns.new_zeros(n, 0, dtype=torch.float32), 1.0, validate_args=False)}

    def read(self, field: str, cells: Any) -> Any:
        """What the encoders of a modality read."""
        if field != "protein":
            return self.seen(cells, field)
        return torch.log1p(cells.protein) if self.log_variational else cells.protein

    def inference(self, cells: MultiCells) -> Latents:
        t = cells.numbers if self.encode_covariates else None
        reads = {field: self.read(field, cells) for field in self.fields}
        each = [self.z[field](x, cells, t) for field, x in reads.items()]
        has = self.has(cells)
        mean, sd = torch.stack([q.mean for q in each], 1), torch.stack([q.stddev for q in each], 1)
        own = Normal(torch.where(has[..., None], mean, 0), torch.where(has[..., None], sd, 1), validate_args=False)
        log_l = self.genes.log_library(reads["x"], cells, t)
        depth = self.regions.depth(reads["atac"], cells, t) if self.regions is not None else torch.zeros_like(log_l)
        return Latents(self.joint(own, self.hidden(has)), own, Known(log_l), Known(depth), **self.noise(len(cells)))

    def hidden(self, has: Tensor) -> Tensor:
        """Which modalities place the cells: all that they have; in training, for some cells one of them, chosen at random.

        What a cell has is explained all the same: that bounds its likelihood too, and is what imputing needs.
        """
        if not self.training or not self.modality_dropout:
            return has
        alone = torch.rand(len(has), 1, device=has.device) < self.modality_dropout
        order = torch.rand(has.shape, device=has.device).masked_fill(~has, -1)
        return has & (~alone | (order == order.max(1, keepdim=True).values))

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
        mean, sd = (v[:, self.encoded.index(modality)] for v in (q.own.mean, q.own.stddev))
        lacks = ((mean == 0) & (sd == 1)).all(-1, keepdim=True)
        return Normal(mean.masked_fill(lacks, torch.nan), sd.masked_fill(lacks, torch.nan), validate_args=False)

    # ------------------------------------------------------------------ p
    def generative(self, z: Any, cells: MultiCells) -> Explained:
        at = self.embed(z.z)
        atac = None if self.regions is None else self.regions(at, z.depth, cells)
        protein = None if self.proteins is None else self.proteins.mixture(self.proteins.decode(at, cells), z.noise, cells)
        return Explained(self.genes(at, z.log_l, cells), atac, protein)

    def generative_of(self, features: Tensor | slice, z: Any, cells: MultiCells, of: str = "x") -> Any:
        if of != "atac" or self.regions is None:
            return None
        return self.regions(self.embed(z.z), z.depth, self.as_measured(of, cells), features)

    def likelihood_of(self, of: str, z: Any, cells: MultiCells) -> Any:
        at = self.embed(z.z)
        if of == "protein" and self.proteins is not None:
            return self.proteins.imputed(at, z.noise, cells)
        return self.generative_of(slice(None), z, cells, of) or self.genes(at, z.log_l, self.as_measured(of, cells))

    def region_factors(self) -> Tensor:
        """r, (regions,)."""
        assert self.regions is not None
        return self.regions.factors.sigmoid()

    def measured_in(self, cells: MultiCells, of: str = "x") -> Tensor | None:
        there = self.has(cells)[:, [self.fields.index(of)]].float()
        mask = self.proteins.mask(cells) if of == "protein" and self.proteins is not None else None
        return there if mask is None else there * mask

    # ------------------------------------------------------------------ loss
    def explained(self, cells: MultiCells, p: Explained) -> dict[str, Tensor]:
        has = self.has(cells)
        logs = {name: getattr(p, name).log_prob(getattr(cells, name)) for name in self.fields}
        return {name: torch.where(has[:, i], value, 0) for i, (name, value) in enumerate(logs.items())}

    def loss(self, cells: MultiCells, q: Latents, z: Any, p: Explained) -> Loss:
        whole, has = super().loss(cells, q, z, p), self.has(cells)
        if self.proteins is not None:
            assert p.protein is not None
            whole.kl["background"] = torch.where(has[:, -1], self.proteins.kl(p.protein, cells), 0)
        penalty = {"modalities": self.joint.apart(q.own, has).mean()} if self.joint.penalty != "None" else {}
        if self.adversary is not None and self.patterns.sum() > 1:
            penalty |= self.adversary.penalties(z.z, self.pattern(has), self.patterns)
        return replace(whole, penalty=penalty)

    def log_ratio(self, q: Any, z: Any, cells: MultiCells) -> Tensor:
        ratio = super().log_ratio(q, z, cells)
        if self.proteins is None:
            return ratio
        return ratio + torch.where(self.has(cells)[:, -1], self.proteins.log_ratio(self.embed(z.z), z.noise, cells), 0)


def _total(values: Any) -> Tensor:
    """Sum of every row, (cells,)."""
    return values.sum(1) if isinstance(values, Tensor) else values.size[:, 0]


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
    n_hidden
        Units in a hidden layer; by default the square root of the number of regions, at most 128.
    n_latent
        Dimensions of z; by default the square root of ``n_hidden``.
    n_layers_encoder, n_layers_decoder
        Hidden layers.
    dropout_rate
        Share of the encoders' hidden units dropped while training.
    region_factors
        Whether each region has a factor r of its own.
    gene_likelihood
        Distribution of the RNA counts.
    dispersion, protein_dispersion
        What the inverse dispersions theta and phi depend on.
    use_batch_norm, use_layer_norm
        Where the norms stand.
    latent_distribution
        ``"normal"``, or ``"ln"``: z is a point on the simplex.
    deeply_inject_covariates
        Whether categories enter every layer of the decoders (else the first).
    encode_covariates
        Whether the encoders see the covariates.
    fully_paired
        Say that all cells have all modalities: then no adversary is made.
    adversarial_mixing
        Whether an adversary keeps z from telling which modalities a cell has.
    use_observed_lib_size
        Whether the RNA's library size is the cell's total count (else a network reads it).
    log_variational
        Whether the encoders read log(1 + x).
    modality_dropout
        Share of the cells that, in each step of the training, one of their modalities places alone.
    mixing
        How posteriors are mixed and compared: as above, or as scvi-tools does, whose variances are wider.

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
    n_hidden: int | None = None
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
    modality_dropout: float = 0.5

    Cells = MultiCells
    regions = "atac"
    modalities: ClassVar[dict[str, str]] = {"rna": "x", "atac": "atac", "protein": "protein"}
    plan: ClassVar[PlanOptions] = PlanOptions(
        optimizer="AdamW", lr=2e-3, weight_decay=0.3, decay="matrices", n_epochs_kl_warmup=50, scale_adversarial_loss=1.0
    )
    plans: ClassVar[dict[str, PlanOptions]] = {
        "scvi-tools": PlanOptions(
            optimizer="AdamW", lr=1e-4, weight_decay=1e-3, eps=1e-8, n_epochs_kl_warmup=50, scale_adversarial_loss=1.0
        )
    }
    training: ClassVar[TrainOptions] = TrainOptions(
        max_epochs=500, early_stopping=True, early_stopping_patience=50, early_stopping_monitor="reconstruction_loss_validation"
    )

    def build(self, setup: Setup) -> MULTIVIModule:
        if not {"x"} < set(setup.features):
            there = " and ".join(setup.features) or "nothing"
            raise DataError(
                f"MULTIVI needs genes, and regions or proteins; the setup found {there}.",
                "SCVI, PEAKVI and TOTALVI take what has fewer.",
            )
        if not setup.whole:
            raise DataError("MULTIVI explains counts, and the data hold values that are not whole or are negative.", "Set up raw counts.")
        for name in ("dispersion", "protein_dispersion"):
            if getattr(self, name).endswith("label") and setup.keys.get("labels_key") is None:
                raise ArgumentError(f"{name}={getattr(self, name)!r} needs labels.", "Name them in the setup: labels_key=...")
        return MULTIVIModule(self, setup)

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
    get_aggregated_posterior = analysis.aggregated_posterior
    get_latent_kl = analysis.latent_kl
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    transfer_labels = analysis.transfer_labels
    minify = analysis.minify
    with_data = analysis.with_data
    prepare_query_anndata = classmethod(transfer.prepare_query_anndata)  # type: ignore[var-annotated]
    load_query_data = classmethod(transfer.load_query_data)  # type: ignore[var-annotated]
