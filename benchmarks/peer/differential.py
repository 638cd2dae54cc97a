"""Differential expression and accessibility in scvi-tools and in scelbo, from the same posterior draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi.model.base import DifferentialComputation

from peer.compare import SINGLE, Topic, difference, worst
from peer.twins import BATCH, Twins, cells
from scelbo.analysis.differential import Test, change
from scelbo.analysis.draws import Draws
from scelbo.analysis.groups import design

SEED, DRAWS = 0, 1000


class Tables:
    """Our model, trained, and one of scvi-tools on the same cells, which is given our draws instead of its own."""

    name: str
    probability: str
    """Its column."""
    epochs = 40
    plan: ClassVar[dict[str, Any]] = {}

    def __init__(self, twins: Twins, adata: AnnData):
        twins.ours.setup_anndata(adata, **BATCH)
        self.ours = twins.ours(adata)
        self.ours.train(self.epochs, plan_kwargs=self.plan, seed=SEED, progress=False)
        twins.theirs.setup_anndata(adata, **BATCH)
        self.theirs = twins.theirs(adata)
        self.theirs.is_trained_ = True

    @staticmethod
    def comparisons() -> Iterator[dict[str, Any]]:
        """What is asked of ours, beside the groups."""
        raise NotImplementedError

    def tables(self, **asked: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The table of one comparison by either, features in the same order."""
        raise NotImplementedError

    def draws(self, asked: dict[str, Any]) -> list[np.ndarray]:
        """The draws (n, features) of either side that our table was made from: the same seed gives the same draws."""
        plan = design(self.ours.adata, asked["groupby"], asked["group1"], asked["group2"])
        draws = Draws(self.ours, None, plan, DRAWS, None, SEED)
        sides = draws.sides(plan.comparisons[0].pools1, plan.comparisons[0].pools2)
        ((_, whole),) = draws.tiles(np.arange(self.ours.setup.n_vars))
        return [whole[:, columns].T for columns in sides]


class Expression(Tables):
    """``differential_expression``."""

    name, probability = "differential expression", "proba_de"

    @staticmethod
    def comparisons() -> Iterator[dict[str, Any]]:
        yield {"mode": "vanilla"}
        intervals, many = {"cred_interval_lvls": [0.5, 0.95]}, {"test_mode": "two", "fdr_target": 0.3}
        for more in ({}, {"test_mode": "two"}, {"delta": 1.0}, {"pseudocounts": 1e-3}, intervals, many):
            yield {"mode": "change"} | more

    def tables(self, **asked: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """scvi-tools tests the fold change with one pseudocount and describes it with a thousandth of that; ours describes what it tests.

        Here our engine describes as theirs does, so that the description is compared too.
        """
        ours = self.ours.differential_expression(n_samples_overall=DRAWS, seed=SEED, **asked)
        draws = self.draws(asked)
        with _given(draws):
            theirs = self.theirs.differential_expression(silent=True, **asked)
        if "pseudocounts" in ours:
            test = Test("change", intervals=asked.get("cred_interval_lvls", ()))
            found = change(draws[0].T, draws[1].T, 1e-3 * ours["pseudocounts"].iloc[0], 0.0, test)
            described = pd.DataFrame(found, index=self.ours.setup.var_names).filter(like="lfc_")
            assert set(described) <= set(ours)
            ours = ours.assign(**described)
        return ours.sort_index(), theirs.sort_index()


class Accessibility(Tables):
    """``differential_accessibility``."""

    name, probability = "differential accessibility", "prob_da"
    epochs = 80
    plan: ClassVar[dict[str, Any]] = {"lr": 2e-2, "max_kl_weight": 0.01}  # types that z tells apart, so that there is something to call

    @staticmethod
    def comparisons() -> Iterator[dict[str, Any]]:
        yield {"mode": "vanilla"}
        for more in ({}, {"test_mode": "two"}, {"two_sided": False}, {"delta": 0.2}, {"fdr_target": 0.4}):
            yield {"mode": "change"} | more

    def tables(self, **asked: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Both test the difference of probabilities, which scvi-tools 1.4.2 has to be told: left alone it tests their log2 fold change.

        Its effects are those of group 2 less those of group 1, against its own columns and ours: here they change their sign.
        """
        ours = self.ours.differential_accessibility(n_samples_overall=DRAWS, seed=SEED, **asked)
        delta, two_sided = asked.get("delta", 0.05), asked.pop("two_sided", True)
        told: dict[str, Any] = {"change_fn": lambda y1, y2, pseudocounts: y1 - y2}
        if not two_sided:
            told["m1_domain_fn"] = lambda effect: (effect >= delta, np.zeros_like(effect, dtype=bool))
        precise = float if asked["mode"] == "vanilla" else np.float32  # its means of single draws are off by more than small effects may be
        with _given([draws.astype(precise) for draws in self.draws(asked)]):
            theirs = self.theirs.differential_accessibility(silent=True, **asked, **(told if asked["mode"] == "change" else {}))
        theirs = theirs.assign(effect_size=-theirs["effect_size"], emp_effect=-theirs["emp_effect"]).dropna(axis="columns", how="all")
        return ours.sort_index(), theirs.sort_index()


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


def topic(twins: Twins, kind: type[Tables]) -> Topic:
    """All comparisons, of a group with another and with the rest."""
    made, some = kind(twins, cells(400)), False
    asked = [
        {"groupby": "cell_type", "group1": "type1", "group2": group2, **more} for group2 in ("type2", None) for more in kind.comparisons()
    ]

    def found() -> Iterator[tuple[str, dict[str, float]]]:
        nonlocal some
        for each in asked:
            ours, theirs = made.tables(**each)
            some = some or (ours.filter(like="_fdr").nunique() == 2).any()
            yield f"{twins.name}, {kind.name}, {each}", {column: _column(ours, theirs, column, kind.probability) for column in theirs}

    text, failed = worst(f"{twins.name}: {len(asked)} tables of {kind.name} from the same posterior draws", "column", found())
    return Topic(text, failed if some else [*failed, f"{twins.name}, {kind.name}: no table calls some features and not others"])


def _column(ours: pd.DataFrame, theirs: pd.DataFrame, column: str, probability: str) -> float:
    """Of features that are as probable as the last one called, either calls those that its order has first."""
    if column not in ours:
        return float("inf")
    if theirs[column].dtype.kind == "f":
        return difference(ours[column].to_numpy(), theirs[column].to_numpy(), share=SINGLE)
    if "_fdr" in column:
        called = [np.sort(table.loc[table[column].astype(bool), probability]) for table in (ours, theirs)]
        return float(np.abs(called[0] - called[1]).max(initial=0)) if len(called[0]) == len(called[1]) else float("inf")
    return 0.0 if (ours[column] == theirs[column]).all() else float("inf")
