r"""CellAssign: types of cells from their marker genes (Zhang et al., Nature Methods 16:1007, 2019, doi:10.1038/s41592-019-0529-1).

For cell n of type c with size factor :math:`s_n` and covariates :math:`x_n`, gene g, and :math:`\rho_{gc} = 1` where g marks c, else 0,

.. math::
    c_n &\sim \theta, \qquad \theta \sim \mathrm{Dirichlet}(10^{-2}) \\
    \log \mu_{ngc} &= \log s_n + b_g + \beta_g x_n + \delta_{gc}\, \rho_{gc}, \qquad
        \log \delta_{gc} \sim N(m, v),\quad \delta_{gc} \ge \delta_{\min} \\
    x_{ng} &\sim \mathrm{NB}(\mu_{ngc},\, \phi(\mu_{ngc})), \qquad
        \phi(\mu) = \sum_{b=1}^{B} a_b\, e^{-(\mu - m_b)^2 / 2 w^2} \quad\text{inverse dispersion}

with centres :math:`m_b` from the lowest count to the highest, w apart. The types are summed out, and what is left is maximised:
:math:`\sum_n \log \sum_c \theta_c\, p(x_n \mid c) + \log p(\theta) + \log p(\delta)`,
whose gradient is that of each step of the paper's EM.

A gene's mean depends on the type only where it is a marker. So each gene is looked at once, and once more for each type it marks:
:math:`\log p(x_n \mid c) = \sum_g \log p_0(x_{ng}) + \sum_{g : \rho_{gc} = 1} (\log p_{gc}(x_{ng}) - \log p_0(x_{ng}))`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis
from scelbo.arguments import question
from scelbo.data import Columns, Loader, MarkerCells, Setup
from scelbo.data.markers import markers_of, measured
from scelbo.errors import ArgumentError
from scelbo.likelihoods.trend import Trend, log_prob
from scelbo.model import Model
from scelbo.module import Loss, Module
from scelbo.nn import PerCategory
from scelbo.train.options import PlanOptions, TrainOptions

CONCENTRATION = 1e-2
"""Of the Dirichlet prior of the types' shares."""
LEAST_SHARE, LEAST_VARIANCE = 1e-8, 1e-2
"""Both priors' densities are infinite somewhere, where a type has no cells and where all markers have one effect: they end before that."""
START = 2.0
"""Delta of every marker before training."""


class Explained(NamedTuple):
    """How well each type explains a cell."""

    nothing: Tensor  # (cells,) log probability of the counts where no gene is marked
    gain: Tensor  # (cells, types) log p(x | c), less that

    def log_p(self) -> Float[Tensor, "cells types"]:
        """Log p(x | c)."""
        return self.nothing[:, None] + self.gain


class CellAssignModule(Module):
    """Genes' levels, markers' effects, types' shares, and the dispersion's trend."""

    gene: Tensor
    kind: Tensor
    centre: Tensor
    typical_size: Tensor

    def __init__(self, model: CellAssign, setup: Setup):
        super().__init__()
        at = {name: i for i, name in enumerate(setup.var_names)}
        pairs = torch.tensor([(at[gene], c) for c, genes in enumerate(model.cell_type_markers.values()) for gene in genes])
        self.register_buffer("gene", pairs[:, 0], persistent=False)  # of each marker, as the kind
        self.register_buffer("kind", pairs[:, 1], persistent=False)
        self.register_buffer("centre", torch.arange(float(model.n_basis)))
        self.register_buffer("typical_size", torch.ones(()))
        self.b = nn.Parameter(torch.zeros(setup.n_vars))
        self.shifts = nn.ModuleList(
            PerCategory(name, n, setup.n_vars, bound=0.0, shift=True) for name, n in setup.n_categories("batch", "extra").items()
        )
        self.slope = nn.Parameter(torch.zeros(setup.n_continuous, setup.n_vars)) if setup.n_continuous else None
        self.least = math.log(model.min_log_fold_change)
        self.log_delta = nn.Parameter(torch.full((len(pairs),), max(self.least, math.log(START))))
        self.delta_mean, self.delta_log_variance = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.theta = nn.Parameter(torch.zeros(len(model.cell_type_markers)))  # logits
        self.log_a = nn.Parameter(torch.zeros(model.n_basis))

    @torch.no_grad()
    def observe(self, data: Columns) -> None:
        """Centres over the range of counts, size factors of about 1, and levels b with which all types alike explain the genes' means."""
        x: Any = data["x"]
        self.typical_size = x.size.mean()
        batches: Any = Loader(data, np.arange(len(data)), 4096)
        highest = max((float(cells.x.val.max()) for cells in batches if len(cells.x.val)), default=1.0)
        self.centre = torch.linspace(0, highest, len(self.centre))
        s = x.size / self.typical_size if data["size"] is None else data["size"]
        marked = torch.zeros_like(self.b).index_add(0, self.gene, self.log_delta.exp().expm1() / len(self.theta))
        self.b.copy_((x.column_means(lambda x: x) / s.mean()).clamp_min(1e-4).log() - marked.log1p())

    def delta(self) -> Float[Tensor, " pairs"]:
        """Log fold change of each marker in its type."""
        return self.log_delta.clamp_min(self.least).exp()

    def log_level(self, cells: MarkerCells) -> Float[Tensor, "cells genes"]:
        """Log mu of genes that are not marked."""
        log_s = (cells.x.size / self.typical_size if cells.size is None else cells.size).log()
        level = log_s + self.b
        for shift in self.shifts:
            level = level + shift(cells)
        return level if self.slope is None or cells.numbers is None else level + cells.numbers @ self.slope

    def explained(self, cells: Any) -> Explained:
        """How well each type explains the cells."""
        level = self.log_level(cells)
        log_mu = torch.cat([level, level.index_select(1, self.gene) + self.delta()], 1)
        x = cells.x.dense()
        log_p = log_prob(torch.cat([x, x.index_select(1, self.gene)], 1), log_mu, Trend(self.log_a, self.centre))
        base, marked = log_p.split([len(self.b), len(self.gene)], 1)
        gain = level.new_zeros(len(cells), len(self.theta)).index_add(1, self.kind, marked - base.index_select(1, self.gene))
        return Explained(base.sum(1) - cells.x.log_factorial[:, 0], gain)

    def log_joint(self, explained: Explained) -> Float[Tensor, "cells types"]:
        """Log (theta_c p(x | c)), less what is the same for all types."""
        return explained.gain + self.theta.log_softmax(0)

    def forward(self, cells: Any) -> Loss:
        if self.training:  # a step may have left what is allowed
            self.log_delta.data.clamp_(min=self.least)
            self.delta_log_variance.data.clamp_(min=math.log(LEAST_VARIANCE))
        explained = self.explained(cells)
        joint = self.log_joint(explained)
        return Loss(
            {"x": -(explained.nothing + joint.logsumexp(1))},
            kl_global={name: -value for name, value in self.log_prior().items()},
            penalty={"entropy": -(joint.softmax(1) * joint.log_softmax(1)).sum(1).mean()},
        )

    def log_prior(self) -> dict[str, Float[Tensor, ""]]:
        """Log p(theta) and log p(log delta)."""
        n, shares = len(self.theta), self.theta.log_softmax(0).clamp_min(math.log(LEAST_SHARE))
        dirichlet = math.lgamma(n * CONCENTRATION) - n * math.lgamma(CONCENTRATION) + (CONCENTRATION - 1) * shares.sum()
        effects = Normal(self.delta_mean, (self.delta_log_variance / 2).exp(), validate_args=False)
        return {"theta": dirichlet, "delta": effects.log_prob(self.delta().log()).sum()}


class CellAssign(Model):
    """Types of cells from marker genes.

    The arguments below are those of ``CellAssign(adata, ...)``. Those of ``CellAssign.setup_anndata(adata, ...)``: ``layer, batch_key,
    size_factor_key, categorical_covariate_keys, continuous_covariate_keys``.

    Parameters
    ----------
    cell_type_markers
        Genes x types of 0 and 1 (a DataFrame), or type -> its genes (a dict). Genes are matched by name; ``adata`` may hold more, which
        only count for the library sizes. A type called "other" may have no markers: it takes the cells that show nobody's.
    min_log_fold_change
        The least delta: by what natural log fold change a marker is higher in the types that it marks.
    n_basis
        B: how many functions make up the inverse dispersion.

    Examples
    --------
    >>> from scelbo import CellAssign
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> CellAssign.setup_anndata(adata, batch_key="batch")
    >>> model = CellAssign(adata, {"A": ["gene1", "gene2"], "B": ["gene3", "gene4"], "other": []})
    >>> model.train(max_epochs=2, progress=False)
    >>> adata.obs["type"] = model.predict(soft=False)
    >>> model.predict().shape
    (200, 3)
    """

    cell_type_markers: dict[str, list[str]] = field(default=None, kw_only=False)  # type: ignore[arg-type]  # markers_of says that it is needed
    min_log_fold_change: float = math.log(2)
    n_basis: int = 10

    Cells = MarkerCells
    plan: ClassVar[PlanOptions] = PlanOptions(lr=2e-2, weight_decay=0.0, eps=1e-8)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(lr=3e-3, weight_decay=1e-10, entropy_weight=1.0)}
    """scvi-tools also minimises the entropy of a cell's probable types: see the model's page."""
    training: ClassVar[TrainOptions] = TrainOptions(max_epochs=400, batch_size=1024, early_stopping=True, early_stopping_patience=15)

    def __post_init__(self) -> None:
        self.cell_type_markers = markers_of(self.cell_type_markers)
        super().__post_init__()

    def features(self, adata: AnnData) -> Iterable[str]:
        self.cell_type_markers = measured(self.cell_type_markers, adata.var_names)
        marks = {gene for genes in self.cell_type_markers.values() for gene in genes}
        return [gene for gene in adata.var_names.astype(str) if gene in marks]

    def build(self, setup: Setup) -> CellAssignModule:
        if self.min_log_fold_change <= 0:
            raise ArgumentError(f"min_log_fold_change={self.min_log_fold_change!r} is not allowed: it must be above zero.")
        return CellAssignModule(self, setup)

    @question
    def predict(
        self, adata: AnnData | None = None, indices: Any = None, *, soft: bool = True, batch_size: int | None = None
    ) -> pd.DataFrame | pd.Series:
        """The probability of each type, p(c | x), or the most probable type.

        Parameters
        ----------
        adata, indices, batch_size
            Which cells, how many at once.
        soft
            Probabilities, or else types.

        Returns
        -------
        Cells x types; with ``soft=False`` a categorical series. The index are the cells' names.
        """
        self.require_trained()
        module, kinds = cast(CellAssignModule, self.module), list(self.cell_type_markers)
        parts = [module.log_joint(module.explained(cells)).softmax(1) for cells in self.batches(adata, indices, batch_size)]
        values, names = torch.cat(parts).cpu().numpy(), self.cell_names(adata, indices)
        if soft:
            return pd.DataFrame(values, index=names, columns=kinds)
        return pd.Series(pd.Categorical.from_codes(values.argmax(1), kinds), index=names, name="cell_type")

    @question
    def get_marker_effects(self) -> pd.DataFrame:
        r"""By how much each marker is higher in the types that it marks.

        Returns
        -------
        One row a marker and type: ``gene``, ``cell_type``, ``log_fold_change`` (:math:`\delta`, natural log), ``level`` (:math:`e^b`:
        the expected count where it marks nothing, of a cell with size factor 1).
        """
        self.require_trained()
        module, kinds = cast(CellAssignModule, self.module), np.array(list(self.cell_type_markers))
        gene = module.gene.cpu().numpy()
        columns = {"gene": np.array(self.setup.var_names)[gene], "cell_type": kinds[module.kind.cpu().numpy()]}
        effects = {"log_fold_change": module.delta().cpu().numpy(), "level": module.b.exp().cpu().numpy()[gene]}
        return pd.DataFrame(columns | effects)

    get_elbo = analysis.elbo
