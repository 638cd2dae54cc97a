r"""scANVI: annotation of single cells (Xu et al., Molecular Systems Biology 17:e9620, 2021, doi:10.15252/msb.20209620).

For cell n, of a type :math:`c_n` that is known of some cells,

.. math::
    c_n &\sim \mathrm{Categorical}(\pi) \\
    u_n &\sim N(0, I) \qquad\text{what differs within a type} \\
    z_n &\sim N(m(u_n, c_n), v(u_n, c_n)) \\
    x_n &\sim p(x \mid z_n, l_n, s_n) \qquad\text{as in scVI}

with :math:`q(z \mid x)\, q(c \mid z)\, q(u \mid z, c)`. The sum over types is exact: with weights :math:`w_c = q(c \mid z)`, or 1 for
the type that is known,

.. math::
    -\mathrm{ELBO} = -\log p(x \mid z) + \log q(z \mid x) + \sum_c w_c
    \left[ -\log p(z \mid u_c, c) + KL(q(u \mid z, c) \,\|\, p(u)) \right] + KL(w \,\|\, \pi),

to which training adds the cross-entropy of the classifier :math:`q(c \mid z)` on labelled cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from anndata import AnnData
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from scelbo import analysis
from scelbo.analysis.labels import calibrated
from scelbo.arguments import takes_also
from scelbo.data import LabelledCells, Setup
from scelbo.errors import ArgumentError
from scelbo.model import Model
from scelbo.models.scvi import SCVI, Decoded, Explained, Latents, SCVIModule
from scelbo.module import Loss, draw
from scelbo.nn import Classifier, GaussianMLP, PerCategory, classified, norms_of

ENOUGH = 0.5
"""Share of labelled cells from which those of a minibatch teach the classifier enough; it is then not shown others beside."""


class SCANVIModule(SCVIModule):
    """scVI's encoder and decoder, the classifier q(c | z), q(u | z, c) and p(z | u, c)."""

    def __init__(self, model: SCANVI, setup: Setup):
        super().__init__(model, setup)
        label = setup.n_categories("label")
        self.labels_in_elbo = model.labels_in_elbo
        norms = norms_of(model)
        net: dict[str, Any] = {"n_hidden": model.n_hidden, "n_layers": model.n_layers, "activation": model.activation, "categories": label}
        net |= {"n_in": model.n_latent, "n_latent": model.n_latent}
        self.u = GaussianMLP(**net, **norms["encoder"], dropout=model.dropout_rate, var_activation=model.var_activation)
        self.z_of_u = GaussianMLP(**net, **norms["decoder"], floor=0.0)
        self.classifier = Classifier(
            model.n_latent,
            label["label"],
            model.classifier_n_hidden or model.n_hidden,
            0 if model.linear_classifier else (model.classifier_n_layers or model.n_layers),
            dropout=model.dropout_rate if model.classifier_dropout_rate is None else model.classifier_dropout_rate,
            **norms["encoder"],
        )

    def types(self, z: Tensor, cells: LabelledCells, known: bool = True) -> tuple[Tensor, Tensor]:
        """w, which type a cell is (that known, where there is one), (..., cells, labels); and KL(w || prior), (..., cells)."""
        log_w = self.classifier(z).log_softmax(-1)
        w, n = log_w.exp(), log_w.shape[-1]
        kl = (w * log_w).sum(-1)
        if known:
            labelled = cells.label >= 0
            w = torch.where(labelled[:, None], F.one_hot(cells.label.clamp_min(0), n).to(w.dtype), w)
            kl = kl.masked_fill(labelled, 0)
        return w, kl + math.log(n)

    def within(self, z: Tensor, cells: LabelledCells) -> tuple[Normal, Tensor, Tensor]:
        """For each type c: q(u | z, c), u drawn from it, and log p(z | u, c); (labels, ..., cells)."""
        codes = torch.arange(self.classifier.logits.out_features, device=z.device)
        each = cells.replace({"label": codes.view(-1, *[1] * (z.dim() - 1))})
        q = self.u(z, each)
        u = q.rsample()
        return q, u, self.z_of_u(u, each).log_prob(z).sum(-1)

    def dispersion(self, decoded: Decoded, z: Any, cells: LabelledCells) -> Tensor:  # type: ignore[override]
        """As in scVI; where it depends on the label, cells without one have the mean of log theta over their likely types."""
        if isinstance(self.log_theta, PerCategory) and self.log_theta.covariate == "label":
            return self.types(z.z, cells)[0] @ self.log_theta.rows()
        return super().dispersion(decoded, z, cells)

    def log_prior(self, q: Latents, z: Any, cells: LabelledCells) -> dict[str, Tensor]:
        r"""log p(z) by one draw of u a type: :math:`\log \sum_c \pi_c\, p(z \mid u_c, c)\, p(u_c) / q(u_c \mid z, c)`."""
        q_u, u, log_z = self.within(z.z, cells)
        ratio = (Normal(0, 1, validate_args=False).log_prob(u) - q_u.log_prob(u)).sum(-1)
        return super().log_prior(q, z, cells) | {"z": (log_z + ratio).logsumexp(0) - math.log(len(u))}

    def loss(self, cells: LabelledCells, q: Latents, z: Any, p: Explained) -> Loss:  # type: ignore[override]
        whole = super().loss(cells, q, z, p)
        w, kl_c = self.types(z.z, cells, known=self.labels_in_elbo)
        q_u, u, log_z = self.within(z.z, cells)
        kl_u = kl_divergence(q_u, Normal(torch.zeros_like(u), torch.ones_like(u), validate_args=False)).sum(-1)
        of_type = {"z": q.z.log_prob(z.z).sum(-1) - (w * log_z.movedim(0, -1)).sum(-1)}
        kl = {"u": (w * kl_u.movedim(0, -1)).sum(-1), "c": kl_c}
        return replace(whole, kl=kl, kl_fixed=whole.kl_fixed | of_type)

    def forward(self, cells: LabelledCells) -> Loss:  # type: ignore[override]
        q = self.inference(cells)
        z = draw(q)
        whole = self.loss(cells, q, z, self.generative(z, cells))
        labelled, at = (cells, q) if cells.beside is None else (cells.beside, self.inference(cells.beside))
        cost, figures = classified(self.classifier(at.z.mean), labelled.label)
        return replace(whole, penalty={"classification_loss": cost}, figures=figures)


class SCANVI(SCVI):
    """Labels for cells of unknown type, and a latent space that keeps types apart, from counts of which some have labels.

    Arguments, beside those of :class:`~scelbo.SCVI`, are below. Those of ``SCANVI.setup_anndata(adata, ...)``: ``labels_key`` (needed),
    ``unlabeled_category`` (the value of cells without a label; those with NaN have none either), and scVI's others.

    Parameters
    ----------
    linear_classifier
        Whether the classifier is linear in z.
    classifier_n_hidden, classifier_n_layers, classifier_dropout_rate
        Sizes of the classifier; by default those of the other networks.
    labels_in_elbo
        Whether known labels are observations of the model (Xu et al.), or only teach the classifier (as in scvi-tools).

    Examples
    --------
    >>> from scelbo import SCANVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> adata.obs["known"] = adata.obs["cell_type"].where(adata.obs["batch"] == "batch0")
    >>> SCANVI.setup_anndata(adata, labels_key="known", batch_key="batch")
    >>> model = SCANVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> len(model.predict())
    200
    >>> list(model.annotate())
    ['label', 'probability', 'set_size', 'novelty']
    """

    linear_classifier: bool = False
    classifier_n_hidden: int | None = None
    classifier_n_layers: int | None = None
    classifier_dropout_rate: float | None = None
    labels_in_elbo: bool = True

    Cells = LabelledCells
    Module = SCANVIModule
    n_samples_per_label: ClassVar[int | None] = None

    def build(self, setup: Setup) -> SCVIModule:
        known = setup.categories["label"]
        if len(known) < 2:
            raise ArgumentError(f"Labels are told apart, and only {known[0]!r} is known.", "Label cells of two types or more, or use SCVI.")
        return super().build(setup)

    @classmethod
    def from_scvi_model(
        cls,
        scvi_model: SCVI,
        unlabeled_category: str | None = None,
        labels_key: str | None = None,
        adata: AnnData | None = None,
        **arguments: Any,
    ) -> Self:
        """A model that starts from a trained :class:`~scelbo.SCVI`: its weights, arguments and setup, and labels.

        Parameters
        ----------
        scvi_model
            The trained model.
        unlabeled_category
            The value of cells without a label.
        labels_key
            Column of ``obs`` with labels; by default the one that the scVI model was set up with.
        adata
            Other cells than the scVI model's.
        **arguments
            Of the classifier.

        Returns
        -------
        The model, ready to train: by default for a third of scVI's epochs, 2 to 10.
        """
        scvi_model.require_trained()
        adata = scvi_model.source(adata)
        keys = scvi_model.setup.keys | {
            "labels_key": labels_key or scvi_model.setup.keys.get("labels_key"),
            "unlabeled_category": unlabeled_category,
        }
        cls.setup_anndata(adata, allow_non_counts=not scvi_model.setup.whole, **keys)
        model = cls(adata, **{name: getattr(scvi_model, name) for name in SCVI.hyperparameters()} | arguments)
        state = model.module.state_dict()
        model.module.load_state_dict(
            state | {k: v for k, v in scvi_model.module.state_dict().items() if k in state and v.shape == state[k].shape}
        )
        epochs = model.training.epochs(adata.n_obs)
        model.training = replace(model.training, max_epochs=min(10, max(2, round(epochs / 3))))  # type: ignore[misc]
        return model

    @takes_also(Model.train)
    def train(self, max_epochs: int | None = None, *, n_samples_per_label: int | None = None, **options: Any) -> None:
        """As of any model; where few cells are labelled they go along with every minibatch, as many as it has, over and over.

        Parameters
        ----------
        max_epochs, **options
            As in :meth:`scelbo.Model.train`; ``plan_kwargs={"classification_ratio": 50}`` weighs labels against counts.
        n_samples_per_label
            In each epoch only so many labelled cells of a type, chosen anew: rare types then count as much as others.
        """
        self.n_samples_per_label = n_samples_per_label  # type: ignore[misc]
        super().train(max_epochs, **options)

    def beside(self, train: np.ndarray) -> Callable[[np.random.Generator], np.ndarray] | None:
        label = self.read()["label"].numpy()[train]
        known = (label >= 0).mean()
        if known == 0 or (known >= ENOUGH and self.n_samples_per_label is None):
            return None

        def cells(rng: np.random.Generator) -> np.ndarray:
            kinds = [train[label == c] for c in np.unique(label[label >= 0])]
            most = self.n_samples_per_label
            return rng.permutation(
                np.concatenate([k if most is None or len(k) <= most else rng.choice(k, most, replace=False) for k in kinds])
            )

        return cells

    def conclude(self) -> None:
        self.calibration = calibrated(self) or self.calibration

    predict = analysis.predict
    predict_sets = analysis.predict_sets
    annotate = analysis.annotate
