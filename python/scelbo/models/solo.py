r"""SOLO: doublets (Bernstein et al., Cell Systems 11:95, 2020, doi:10.1016/j.cels.2020.05.010).

Droplets that hold two cells are imitated by the sums of random pairs of cells of the same lane, and a network learns to tell them from
cells. Of cell n it reads :math:`u_n`, the log-odds of sums among the neighbours, at three scales (:class:`~scelbo.nn.Neighbours`); or, as
in the paper, :math:`u_n = (E[z_n \mid x_n], \log l_n - m_{b(n)})` (m: the lane's mean). Either way z is by the encoder of a trained scVI,
which does not learn on.

Cells hold a share :math:`\pi` of doublets themselves, so with densities d of doublets and s of singlets, and r sums a cell,

.. math:: \frac{p(\text{sum} \mid u)}{p(\text{cell} \mid u)} = \frac{r\, d(u)}{(1 - \pi)\, s(u) + \pi\, d(u)}
    \qquad \mathrm{logit}\, p(\text{doublet} \mid u) = \mathrm{logit}\, \pi + \log \frac{d(u)}{s(u)} = \mathrm{logit}\, \pi + h(u) - \log r.

Training fits the first by the network's h (contaminated controls: Lancaster and Imbens, J. Econometrics 71:145, 1996), the
answer is the second. In the paper cells are taken for singlets: that is the first at :math:`\pi = 0`, and the answer is then h, as if
doublets were as common among cells as sums were in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NoReturn, Self

import torch
import torch.nn.functional as F
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from scelbo import analysis, settings
from scelbo.data import Columns, Setup
from scelbo.data.doublets import Evidence, PairedCells, of_lanes, rates
from scelbo.errors import DataError, SetupError, refuse, unknown
from scelbo.model import Model
from scelbo.models.scvi import SCVI, SCVIModule
from scelbo.module import Loss, Module
from scelbo.nn import Classifier, DoubletEvidence
from scelbo.train.options import PlanOptions, TrainOptions


class SOLOModule(DoubletEvidence, Module):
    """The encoder of an scVI, the neighbours that are looked up (if they are), and the classifier."""

    def __init__(self, model: SOLO, setup: Setup):
        scvi, lanes = SimpleNamespace(**model.scvi), setup.categories["batch"]  # type: ignore[arg-type]
        vae = SCVIModule(scvi, setup)  # type: ignore[arg-type]
        for part in ("decoder", "rho", "pi", "log_theta", "l", "l_prior"):
            setattr(vae, part, None)
        super().__init__(vae, scvi.n_latent, len(lanes), model.classifier_reads == "neighbours", model.doublet_ratio, model.seed)
        self.classifier = Classifier(self.n_inputs, 2, model.n_hidden, model.n_layers, dropout=model.dropout_rate)
        known = [(model.expected_doublet_rate or {}).get(lane) for lane in lanes]
        self.register_buffer("rate", torch.tensor([math.nan if rate is None else rate for rate in known]), persistent=False)

    rate: Tensor  # (lanes,) of doublets; NaN where cells are taken for singlets

    def score(self, cells: Evidence) -> Float[Tensor, "cells sums_1"]:
        """h: the classifier's log-odds of a doublet."""
        logits = self.classifier(cells.inputs)
        return logits[..., 0] - logits[..., 1]

    def log_odds(self, cells: Evidence) -> Float[Tensor, "cells sums_1"]:
        """Of being a doublet, at the lane's rate; without one as in training."""
        h, rate = self.score(cells), self.rate[cells.batch][:, None]
        return torch.where(rate.isnan(), h, h - math.log(self.ratio) + rate.logit())

    def forward(self, cells: Evidence) -> Loss:  # type: ignore[override]
        h, rate = self.score(cells), self.rate[cells.batch][:, None].nan_to_num(0.0)
        sum_or_cell = -torch.logaddexp((1 - rate).log() - h, rate.log() - math.log(self.ratio))
        made = torch.ones_like(h)
        made[:, 0] = 0
        entropy = F.binary_cross_entropy_with_logits(sum_or_cell, made, reduction="none").mean(1)
        return Loss({"doublet": entropy}, figures={"accuracy": ((h > 0) == (made > 0)).to(h.dtype).flatten()})


class SOLO(Model):
    """Which cells are doublets: made of a trained SCVI by :meth:`from_scvi_model`, on its cells or others of its lanes.

    Parameters
    ----------
    scvi
        Arguments of the SCVI whose encoder it is.
    classifier_reads
        ``"neighbours"``: what is near a cell. ``"latent"``: z and the depth, as published.
    expected_doublet_rate
        Share of doublets expected in each lane; None where its cells are taken for singlets.
    doublet_ratio
        Sums for each cell.
    n_hidden, n_layers, dropout_rate
        The classifier's.
    seed
        Of the random pairs.

    Examples
    --------
    >>> from scelbo import SCVI, SOLO
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> SCVI.setup_anndata(adata, batch_key="batch")
    >>> scvi = SCVI(adata)
    >>> scvi.train(max_epochs=2, progress=False)
    >>> model = SOLO.from_scvi_model(scvi, expected_doublet_rate=0.08)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.predict().shape
    (200, 2)
    """

    scvi: dict[str, Any] | None = None
    classifier_reads: Literal["neighbours", "latent"] = "neighbours"
    expected_doublet_rate: dict[str, float | None] | None = None
    doublet_ratio: int = 2
    n_hidden: int = 128
    n_layers: int = 1
    dropout_rate: float = 0.1
    seed: Any = 0

    Cells = PairedCells
    plan: ClassVar[PlanOptions] = PlanOptions(lr=1e-3, eps=1e-8, weight_decay=0.0)
    training: ClassVar[TrainOptions] = TrainOptions(
        max_epochs=400, early_stopping=True, early_stopping_patience=30, early_stopping_monitor="validation_loss"
    )

    def __post_init__(self) -> None:
        if self.scvi is None:
            self.setup_anndata()
        self._table: Columns | None = None
        super().__post_init__()
        if self.classifier_reads == "latent":  # as published 128 cells and sums make a minibatch
            self.training = replace(self.training, batch_size=max(1, 128 // (1 + self.doublet_ratio)))  # type: ignore[misc]

    def build(self, setup: Setup) -> SOLOModule:
        return SOLOModule(self, setup)

    @classmethod
    def setup_anndata(cls, *_: Any, **__: Any) -> NoReturn:
        """Not here: the cells are those that the SCVI was set up for."""
        raise SetupError("SOLO is made of a trained SCVI.", "Call SOLO.from_scvi_model(model).")

    check = setup_anndata

    @classmethod
    def from_scvi_model(
        cls,
        scvi_model: SCVI,
        adata: AnnData | None = None,
        restrict_to_batch: str | None = None,
        doublet_ratio: int = 2,
        expected_doublet_rate: float | Mapping[str, float] | None = None,
        seed: int | None = None,
        classifier_reads: Literal["neighbours", "latent"] = "neighbours",
        **hyperparameters: Any,
    ) -> Self:
        """A model that says which cells are doublets; ``train()`` it.

        Parameters
        ----------
        scvi_model
            A trained SCVI, its batches the lanes: cells only pair up within theirs.
        adata
            Other cells than its own.
        restrict_to_batch
            Only the cells of this lane.
        doublet_ratio
            Sums for each cell.
        expected_doublet_rate
            Share of doublets: one number, or lane -> number; by default 0.8 % for each 1,000 cells that the lane holds here. Give it
            where lanes were overloaded (hashing) or cells were left out. With ``classifier_reads="latent"`` there is no default: cells
            are taken for singlets, and the probability is that of a sum in training.
        seed
            Of the random pairs.
        classifier_reads
            ``"neighbours"``, or ``"latent"``: as published and in scvi-tools, which ``train(plan="scvi-tools")`` goes with.
        **hyperparameters
            ``n_hidden, n_layers, dropout_rate`` of the classifier.

        Raises
        ------
        ArgumentError
            It is no SCVI, or a query's; a lane or a rate that cannot be.
        NotTrainedError
            It was not trained.
        DataError
            The data are not counts.
        """
        refuse(not isinstance(scvi_model, SCVI), f"SOLO is made of an SCVI, not of {type(scvi_model).__name__}.")
        scvi_model.require_trained()
        setup = scvi_model.setup
        refuse(setup.reference is not None, "This SCVI was mapped to a reference.", "Train an SCVI on these cells alone.")
        source, lane_cells = of_lanes(setup, scvi_model.source(adata), restrict_to_batch)
        as_published = classifier_reads == "latent" and expected_doublet_rate is None
        model = cls(
            source, setup=setup, scvi={name: getattr(scvi_model, name) for name in SCVI.hyperparameters()},
            expected_doublet_rate=dict.fromkeys(lane_cells) if as_published else {**rates(expected_doublet_rate, lane_cells)},
            classifier_reads=classifier_reads, doublet_ratio=doublet_ratio, seed=settings.fresh_seed(seed), **hyperparameters,
        )  # fmt: skip
        module: Any = model.module
        module.vae.load_state_dict(scvi_model.module.state_dict(), strict=False)
        module.observe(super(SOLO, model).read())
        return model

    def read(self, adata: AnnData | None = None) -> Columns:
        """What the classifier reads, of all cells; of the model's own with that of their sums."""
        data, own = super().read(adata), self.source(adata) is self.adata
        for lane in (self.setup.categories["batch"][b] for b in data["batch"].unique()):
            if lane not in (self.expected_doublet_rate or {}):
                raise DataError(unknown("lane", lane, self.expected_doublet_rate or {}), "SOLO.from_scvi_model(model, adata) takes it in.")
        if not own or self._table is None:
            table = self.module.evidence(data, sums=own)  # type: ignore[operator]
            self._table = table if own else self._table
            return table
        return self._table

    predict = analysis.predict_doublets
    get_doublets = analysis.doublet_calls
