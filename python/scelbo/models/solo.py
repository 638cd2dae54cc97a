r"""SOLO: doublets (Bernstein et al., Cell Systems 11:95, 2020, doi:10.1016/j.cels.2020.05.010).

Droplets that hold two cells are imitated by the sums of random pairs of cells of the same lane, and a network learns to tell them from
cells. Cells and sums are placed by

.. math:: u_n = (P^\top \log(1 + 10^4 x_n / l_n),\; \tfrac12\, E[z_n \mid x_n],\; \tfrac14 (\log l_n - m_{b(n)}))

(P: principal axes; z: by the encoder of a trained scVI, which does not learn on, at the median depth; m: the lane's mean; each of the three
at unit total variance). The network reads the log-odds of sums among the nearest of a reference of cells and sums, at three scales. Cells
hold a share :math:`\pi` of doublets themselves, so with densities d of doublets and s of singlets, and r sums a cell,

.. math:: \frac{p(\text{sum} \mid u)}{p(\text{cell} \mid u)} = \frac{r\, d(u)}{(1 - \pi)\, s(u) + \pi\, d(u)}
    \qquad \mathrm{logit}\, p(\text{doublet} \mid u) = \mathrm{logit}\, \pi + \log \frac{d(u)}{s(u)} = \mathrm{logit}\, \pi + h(u) - \log r.

Training fits the first by the network's h (contaminated controls: Lancaster and Imbens, J. Econometrics 71:145, 1996), the
answer is the second. Differs from the paper, where the network reads z and takes all cells for singlets: that is the case :math:`\pi = 0`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
import torch.nn.functional as F
from anndata import AnnData
from jaxtyping import Float
from sklearn.decomposition import TruncatedSVD
from torch import Tensor

from scelbo import analysis, settings
from scelbo.data import Columns, Counts, Setup
from scelbo.data.doublets import Evidence, PairedCells, partners, rates
from scelbo.data.loaders import at_most
from scelbo.errors import ArgumentError, DataError, SetupError, unknown
from scelbo.model import Model
from scelbo.models.scvi import SCVI, SCVIModule
from scelbo.module import Loss, Module
from scelbo.nn import SCALES, Classifier, odds_nearby
from scelbo.train.options import PlanOptions, TrainOptions

AXES, REFERENCE, AT_ONCE, WEIGHTS = 10, 10_000, 256, (1.0, 0.5, 0.25)
"""Principal axes; cells in the reference at most; cells placed at once; of components, latents and depth in a distance."""
NEVER_LEARN = ("axes", "center", "scale", "lane_depth", "depth", "cells", "sums")


class SOLOModule(Module):
    """The encoder of an scVI, the reference that neighbours are looked for in, and the classifier."""

    def __init__(self, model: SOLO, setup: Setup):
        super().__init__()
        self.vae = SCVIModule(SimpleNamespace(**model.scvi), setup)  # type: ignore[arg-type]
        for part in ("decoder", "rho", "pi", "log_theta", "l", "l_prior"):
            setattr(self.vae, part, None)
        self.vae.requires_grad_(False)
        self.classifier = Classifier(len(SCALES), 2, model.n_hidden, model.n_layers, dropout=model.dropout_rate)
        self.ratio, self.seed = model.doublet_ratio, model.seed
        known = model.expected_doublet_rate or {}
        self.register_buffer("rate", torch.tensor([known.get(lane, 0.0) for lane in setup.categories["batch"]]), persistent=False)
        for name in NEVER_LEARN:  # see observe
            self.register_buffer(name, torch.empty(0))

    rate: Tensor  # (lanes,) of doublets
    axes: Tensor  # (genes, axes)
    center: Tensor  # (dimensions,)
    scale: Tensor  # (dimensions,)
    lane_depth: Tensor  # (lanes,) mean log library size
    depth: Tensor  # () median library size
    cells: Tensor  # (cells, dimensions) the reference
    sums: Tensor  # (sums, dimensions)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.vae.eval()
        return self

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in NEVER_LEARN:  # their sizes are the data's
            setattr(self, name, torch.empty_like(state[prefix + name], device=self.rate.device))
        super()._load_from_state_dict(state, prefix, *rest)

    # ------------------------------------------------------------------ where cells are
    def observe(self, data: Columns) -> None:
        """Take axes, depths and scales from the data, and place the reference."""
        rng, lane = np.random.default_rng([self.seed, 0]), data["batch"]
        size = data["x"].size[:, 0]
        self.depth, log_size = size.median(), size.log()
        self.lane_depth = torch.stack([log_size[lane == b].mean() for b in range(len(self.rate))]).nan_to_num(float(log_size.mean()))
        rows = at_most(np.arange(len(data)), REFERENCE, rng)
        x = self.normalised(data.take(rows))
        svd = TruncatedSVD(min(AXES, x.n_vars - 1, len(x) - 1), random_state=self.seed).fit(x.scipy())
        self.axes = torch.from_numpy(svd.components_.T.astype(np.float32))
        self.center, self.scale = torch.zeros(1), torch.ones(1)
        u = self.positions(data, rows)
        parts = u.split([self.axes.shape[1], u.shape[1] - self.axes.shape[1] - 1, 1], 1)
        spread = [
            (part.var(0).sum().sqrt().clamp_min(1e-6) / weight).expand(part.shape[1]) for part, weight in zip(parts, WEIGHTS, strict=True)
        ]
        self.center, self.scale = u.mean(0), torch.cat(spread)
        self.cells = self.positions(data, rows)
        others = partners(lane.numpy(), self.ratio, rng)[rows]
        self.sums = torch.cat([self.positions(data, rows, other) for other in others.T])

    def normalised(self, cells: Any) -> Counts:
        """log(1 + counts per 10,000)."""
        return cells.x.scaled(1e4 / cells.x.size).map(torch.log1p)

    @torch.no_grad()
    def positions(self, data: Columns, rows: np.ndarray, others: np.ndarray | None = None) -> Float[Tensor, "rows dimensions"]:
        """u of cells, or of their sums with others."""
        out = []
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // AT_ONCE)):
            cells: Any = data.take(rows[part])
            if others is not None:
                cells.x = cells.x + data.take(others[part]).x  # type: ignore[attr-defined]
            out.append(self.position(cells.to(self.rate.device)))
        return torch.cat(out) if out else self.cells[:0]

    def position(self, cells: Any) -> Float[Tensor, "cells dimensions"]:
        """u of a minibatch."""
        alike = type(cells)(**{**cells.__dict__, "x": cells.x.scaled(self.depth / cells.x.size)})
        depth = cells.x.size.log() - self.lane_depth[cells.batch][:, None]
        return (torch.cat([self.normalised(cells) @ self.axes, self.vae.inference(alike).z.mean, depth], 1) - self.center) / self.scale

    @torch.no_grad()
    def evidence(self, data: Columns, sums: bool) -> Columns:
        """What the classifier reads, of every cell, and if asked of its sums with random others (not those in the reference)."""
        rows, lane = np.arange(len(data)), data["batch"].numpy()
        others = partners(lane, self.ratio if sums else 0, np.random.default_rng([self.seed, 1]))
        near = lambda u: torch.cat([odds_nearby(part, self.cells, self.sums) for part in u.split(AT_ONCE)])  # noqa: E731
        table = [near(self.positions(data, rows, other)) for other in (None, *others.T)]
        return Columns(Evidence, {"odds": torch.stack(table, 1).cpu(), "batch": data["batch"]}, len(data))

    # ------------------------------------------------------------------ what it says
    def score(self, cells: Evidence) -> Float[Tensor, "cells sums_1"]:
        """h: the classifier's log-odds of a doublet."""
        logits = self.classifier(cells.odds)
        return logits[..., 0] - logits[..., 1]

    def log_odds(self, cells: Evidence) -> Float[Tensor, "cells sums_1"]:
        """Of being a doublet, at the lane's rate."""
        return self.score(cells) - math.log(self.ratio) + self.rate[cells.batch][:, None].logit()

    def forward(self, cells: Evidence) -> Loss:  # type: ignore[override]
        h, rate = self.score(cells), self.rate[cells.batch][:, None]
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
    expected_doublet_rate
        Share of doublets expected in each lane.
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
    expected_doublet_rate: dict[str, float] | None = None
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
            where lanes were overloaded (hashing) or cells were left out.
        seed
            Of the random pairs.
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
        if not isinstance(scvi_model, SCVI):
            raise ArgumentError(f"SOLO is made of an SCVI, not of {type(scvi_model).__name__}.")
        scvi_model.require_trained()
        setup, source = scvi_model.setup, scvi_model.source(adata)
        if setup.reference is not None:
            raise ArgumentError("This SCVI was mapped to a reference.", "Train an SCVI on these cells alone.")
        if not setup.whole:
            raise DataError("Doublets are sums of counts, and the data are not counts.", "Set up the layer with raw counts.")
        lanes = setup.categories["batch"]
        lane = setup.read(source, cls.Cells)["batch"].numpy()
        if restrict_to_batch is not None:
            here = lane == setup.code("batch", restrict_to_batch)
            source, lane = source[here] if source.isbacked else source[here].copy(), lane[here]
        lane_cells = {lanes[b]: int((lane == b).sum()) for b in np.unique(lane)}
        model = cls(
            source,
            setup=setup,
            scvi={name: getattr(scvi_model, name) for name in SCVI.hyperparameters()},
            expected_doublet_rate=rates(expected_doublet_rate, lane_cells),
            doublet_ratio=doublet_ratio,
            seed=settings.fresh_seed(seed),
            **hyperparameters,
        )
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
