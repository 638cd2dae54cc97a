r"""CondSCVI: how cells of one type differ (Lopez et al., Nature Biotechnology 40:1360, 2022, doi:10.1038/s41587-022-01272-8).

For cell n of a known type :math:`c_n` in batch :math:`b_n` with library size :math:`l_n`, and gene g,

.. math::
    \gamma_n &\sim N(0, I) \quad\text{or}\quad \textstyle\sum_k \pi_{c_n k}\, N(m_{c_n k}, \mathrm{diag}(u_{c_n k}))
    \qquad\text{the state within the type} \\
    x_{ng} &\sim \mathrm{NB}(l_n f_g(c_n, \gamma_n, b_n),\, o_g), \qquad f = \mathrm{softplus}

Where some cells have a finer label :math:`k_n` of their type, :math:`p(k \mid \gamma, c) \propto e^{a_k \cdot \gamma + d_k}` learns along.
Counts have the mean :math:`l f e^o`, so that counts of several cells add up (:class:`~scelbo.likelihoods.AdditiveNB`), and
:math:`q(\gamma \mid x, c)` amortised. What DestVI takes from it are f, o and the states that cells of each type were seen in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from anndata import AnnData
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis
from scelbo.arguments import question
from scelbo.data import Columns, Counts, Setup, TypedSizedCells
from scelbo.likelihoods import AdditiveNB, Mean, NegativeBinomial
from scelbo.model import Model
from scelbo.module import CountsVAE, Loss
from scelbo.nn import MLP, GaussianEncoder, Known, Linear, MixtureOf, NestedClassifier, PerCategory, classified, inverse_softplus
from scelbo.train.options import PlanOptions, TrainOptions


class Latents(NamedTuple):
    """What is hidden in a cell."""

    z: Normal  # (cells, n_latent): gamma
    log_l: Known  # (cells, 1)


class Explained(NamedTuple):
    """What the model explains: the counts."""

    x: AdditiveNB | NegativeBinomial


class CondSCVIModule(CountsVAE):
    """q(gamma | x, c) and f(c, gamma, b)."""

    weight: Tensor

    def __init__(self, model: CondSCVI, setup: Setup):
        super().__init__(setup.n_vars)
        label, batch = setup.n_categories("label"), setup.n_categories("batch")
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "n_layers": model.n_layers, "batch_norm": False, "layer_norm": True}
        seen = label | batch if model.encode_covariates else label
        self.log_variational, self.weighs, self.additive = model.log_variational, model.weight_obs, model.gene_likelihood == "additive"
        self.z = GaussianEncoder(setup.n_vars, model.n_latent, categories=seen, dropout=model.dropout_rate, **net)
        self.decoder = MLP(model.n_latent, categories=label | batch, dropout=model.dropout_rate, **net)
        self.rho = Linear(model.n_hidden, setup.n_vars)
        self.bias = PerCategory("label", label["label"], setup.n_vars, bound=0.0)
        self.o = nn.Parameter(torch.zeros(setup.n_vars))
        self.states = MixtureOf("label", label["label"], model.num_classes_mog, model.n_latent) if model.prior == "mog" else None
        fine_labels = setup.categories["fine"] if setup.keys.get("fine_labels_key") else []
        self.fine = NestedClassifier(model.n_latent, len(fine_labels)) if fine_labels else None
        self.register_buffer("weight", torch.ones(label["label"]))

    @torch.no_grad()
    def observe(self, data: Columns) -> None:
        """Start at the mean share of each gene; rare types may weigh more."""
        super().observe(data)
        x: Any = data["x"]
        share = x.column_means(lambda x: x) / x.size.mean()
        self.rho.bias.copy_(inverse_softplus(share) if self.additive else share.clamp_min(1e-9).log())
        if self.fine is not None:
            self.fine.observe(data["fine"], data["label"])
        if self.weighs:
            n = torch.bincount(data["label"], minlength=len(self.weight))
            self.weight.copy_(n.sum() / (len(n) * n.clamp_min(1)))

    def seen_as(self, x: Counts) -> Counts:
        return x.map(torch.log1p) if self.log_variational else x

    def inference(self, cells: TypedSizedCells) -> Latents:
        return Latents(self.z(self.seen(cells), cells), Known((cells.x.size if cells.size is None else cells.size).log()))

    def generative(self, z: Any, cells: TypedSizedCells) -> Explained:
        h = self.rho(self.decoder(z.z, cells)) + self.bias(cells)
        if self.additive:
            return Explained(AdditiveNB(F.softplus(h), self.o, z.log_l.exp()))
        return Explained(NegativeBinomial(Mean(h, z.log_l), self.o[None]))

    def prior(self, q: Latents, cells: TypedSizedCells) -> Any:
        p = super().prior(q, cells)
        return p if self.states is None else p._replace(z=self.states(cells))

    def loss(self, cells: TypedSizedCells, q: Latents, z: Any, p: Explained) -> Loss:
        """Minus the ELBO, of a mixture at the z that was drawn; in training times the weight of the cell's type."""
        weight = (self.weight if self.training else torch.ones_like(self.weight))[cells.label]
        kl = self.kl(q, cells) if self.states is None else {"z": -self.log_ratio(q, z, cells)}
        whole = Loss({k: -v * weight for k, v in self.explained(cells, p).items()}, {k: v * weight for k, v in kl.items()})
        if self.fine is None:
            return whole
        cost, figures = classified(self.fine(z.z, cells.label), cells.fine, weight)
        return replace(whole, penalty={"classification_loss": cost}, figures=figures)


class CondSCVI(Model):
    r"""States of cells within their types, for :class:`DestVI`.

    The arguments below are those of ``CondSCVI(adata, ...)``. Those of ``CondSCVI.setup_anndata(adata, ...)``: ``labels_key`` (needed),
    ``layer, batch_key, size_factor_key``; ``fine_labels_key`` (finer labels, each of cells of one type) and ``unlabeled_category``, the
    value of cells without one (``"unlabeled"``; those with NaN have none either).

    Parameters
    ----------
    n_hidden, n_latent, n_layers, dropout_rate
        Sizes of encoder and decoder, and the share of hidden units dropped while training.
    gene_likelihood
        ``"additive"``, above; or ``"nb"``: mean :math:`l\,\mathrm{softmax}(f)`, o the log of the inverse dispersion (as in scvi-tools,
        of no use to DestVI, as such counts do not add up).
    weight_obs
        Whether all types count alike, however many cells they have.
    encode_covariates
        Whether the encoder sees the batch.
    log_variational
        Whether the encoder reads log(1 + x).
    prior
        Of gamma: ``"normal"``, or ``"mog"``, for each type a mixture of normals, which is learnt. Its KL is that at the gamma drawn.
    num_classes_mog
        Components of a type's mixture.

    Examples
    --------
    >>> from scelbo import CondSCVI, DestVI
    >>> from scelbo.data.simulate import spots
    >>> cells, tissue = spots(n_spots=60, n_cells=200, n_genes=80, stored=0.8)
    >>> CondSCVI.setup_anndata(cells, labels_key="cell_type")
    >>> reference = CondSCVI(cells)
    >>> reference.train(max_epochs=2, progress=False)
    >>> model = DestVI.from_rna_model(tissue, reference)
    80 genes are in reference and spots.
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_proportions().shape
    (60, 4)
    """

    n_hidden: int = 128
    n_latent: int = 5
    n_layers: int = 2
    gene_likelihood: Literal["additive", "nb"] = "additive"
    weight_obs: bool = False
    dropout_rate: float = 0.05
    encode_covariates: bool = False
    log_variational: bool = True
    prior: Literal["normal", "mog"] = "normal"
    num_classes_mog: int = 10

    Cells = TypedSizedCells
    plan: ClassVar[PlanOptions] = PlanOptions(lr=1e-3, eps=1e-8, parts={"o": {"lr": 2e-2}}, classification_ratio=5.0)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(lr=1e-3, n_epochs_kl_warmup=400, classification_ratio=5.0)}
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=300, train_size=1.0)

    def build(self, setup: Setup) -> CondSCVIModule:
        return CondSCVIModule(self, setup)

    @property
    def fine_types(self) -> dict[str, str] | None:
        """Fine label -> the type that it is of; None without fine labels."""
        classifier, known = cast(CondSCVIModule, self.module).fine, self.setup.categories
        return None if classifier is None else {k: known["label"][z] for k, z in zip(known["fine"], classifier.parent, strict=True)}

    @question
    def get_vamp_prior(self, adata: AnnData | None = None, p: int = 15, *, seed: int = 0) -> pd.DataFrame:
        r"""The states that cells of each type are in, as a mixture of normals: at most ``p`` clusters (k-means) of the means of q.

        Parameters
        ----------
        adata
            Other cells than the model's.
        p
            Clusters of a type; fewer where it has fewer than 5 cells for each.
        seed
            Of k-means.

        Returns
        -------
        One row a component: ``cell_type, weight`` (sums to one within a type), ``mean_0, ..., variance_0, ...`` (of the cluster's cells:
        the mean of their variances, and the variance of their means).
        """
        from sklearn.cluster import KMeans  # takes long

        mean, variance = analysis.latent_representation(self, adata, return_dist=True)
        code, types, rows = self.read(adata)["label"].numpy(), self.setup.categories["label"], []
        for c in np.unique(code):
            m, v = mean[code == c], variance[code == c]
            k = max(1, min(p, len(m) // 5))
            cluster = KMeans(k, n_init=1, random_state=seed).fit_predict(m)
            for i in np.unique(cluster):
                here = cluster == i
                rows.append([types[c], here.mean(), *m[here].mean(0), *(v[here].mean(0) + m[here].var(0))])
        names = [f"{what}_{d}" for what in ("mean", "variance") for d in range(mean.shape[1])]
        return pd.DataFrame(rows, columns=["cell_type", "weight", *names])

    predict = analysis.predict_fine
    get_latent_representation = analysis.latent_representation
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
