"""Differential expression in scvi-tools and in scelbo, from the same posterior draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import scvi
from anndata import AnnData
from scvi.model.base import DifferentialComputation

from scelbo import SCVI
from scelbo.analysis.differential import Test, change
from scelbo.analysis.draws import Draws
from scelbo.analysis.groups import design

SEED, DRAWS = 0, 1000
KEYS = {"batch_key": "batch", "labels_key": "cell_type"}


class Pair:
    """Our model, trained, and one of scvi-tools on the same cells, which is given our draws instead of its own."""

    def __init__(self, adata: AnnData, epochs: int = 40):
        SCVI.setup_anndata(adata, **KEYS)
        self.ours = SCVI(adata)
        self.ours.train(epochs, progress=False)
        scvi.model.SCVI.setup_anndata(adata, **KEYS)
        self.theirs = scvi.model.SCVI(adata)
        self.theirs.is_trained_ = True

    def tables(self, **asked: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The table of one comparison (``groupby, group1, group2, mode, ...``) by either, genes in the same order.

        scvi-tools tests the fold change with one pseudocount and describes it with a thousandth of that; ours describes what it tests.
        Here our engine describes as theirs does, so that the description is compared too.
        """
        ours = self.ours.differential_expression(n_samples_overall=DRAWS, seed=SEED, **asked)
        draws = self._draws(asked["groupby"], asked["group1"], asked.get("group2"))
        with _given(draws):
            theirs = self.theirs.differential_expression(silent=True, **asked)
        if "pseudocounts" in ours:
            test = Test("change", intervals=asked.get("cred_interval_lvls", ()))
            effect = test.effect(draws[0].T, draws[1].T, 1e-3 * ours["pseudocounts"].iloc[0])
            described = pd.DataFrame(change(effect, 0.0, test), index=self.ours.setup.var_names).filter(like="lfc_")
            assert set(described) <= set(ours)
            ours = ours.assign(**described)
        return ours.sort_index(), theirs.sort_index()

    def _draws(self, groupby: str, group1: str, group2: str | None) -> list[np.ndarray]:
        """The draws (n, genes) of either side that our table was made from: the same seed gives the same draws."""
        plan = design(self.ours.adata, groupby, group1, group2)
        draws = Draws(self.ours, None, plan, DRAWS, None, SEED)
        sides = draws.sides(plan.comparisons[0].pools1, plan.comparisons[0].pools2)
        ((_, whole),) = draws.tiles(np.arange(self.ours.setup.n_vars))
        return [whole[:, columns].T for columns in sides]


@contextmanager
def _given(draws: list[np.ndarray]) -> Iterator[None]:
    """Inside, scvi-tools' sampler hands out these draws: first group 1's, then group 2's."""
    left, original = list(draws), DifferentialComputation.scale_sampler

    def scale_sampler(self: Any, selection: Any, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        scale = left.pop(0)
        return {"scale": scale, "batch": np.zeros(len(scale), int)}

    DifferentialComputation.scale_sampler = scale_sampler
    try:
        yield
    finally:
        DifferentialComputation.scale_sampler = original
