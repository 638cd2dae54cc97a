"""Simulation-based calibration of scVI and PeakVI, one approximation after the other.

*The decoder is known*: z is drawn from its prior, counts from the decoder, and the posterior of z given the counts is asked for. Long
chains know the true size of a cell, or read it off its counts as the models do; then come the best diagonal normal of each cell by itself,
and an encoder that was trained on many cells of the same decoder. *All is learnt*: models trained as users train them, on cells of the
known decoder, are asked what does not depend on how they name z: proportions of genes in a cell, and their ratio in two cells.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibrated import known as k
from calibrated import ranks
from calibrated.exact import best_normal, hamiltonian, weighted
from scelbo import settings

FEATURES = 20
"""Features that are looked at, from little to much expressed."""
EXACT, PLUG_IN, BEST, BEST_WEIGHTED = (
    "exact posterior",
    "exact, size read off the counts",
    "best diagonal normal",
    "best diagonal normal, weighted",
)
OURS, OURS_WEIGHTED, PEER = "encoder, scelbo", "encoder, scelbo, weighted", "encoder, scvi-tools"
KNOWN, LEARNT = "decoder known", "all learnt"
NORMAL = 0.6745
"""The median of a standard normal's distance from 0."""


@dataclass(frozen=True)
class Sizes:
    """How much is made and trained; ``--quick`` has fewer."""

    features: int = 500
    teacher_epochs: int = 100
    encoder_cells: int = 10_000
    encoder_epochs: int = 40
    encoders: int = 3
    learnt_cells: int = 1500
    learnt_epochs: int = 400
    asked: int = 400
    ensemble: int = 3


QUICK = Sizes(200, 20, 2000, 5, 1, 400, 20, 100, 2)


@dataclass(frozen=True)
class Found:
    """What one method's draws say of one quantity."""

    model: str
    stage: str
    method: str
    quantity: str
    ranks: np.ndarray  # (cells, quantities)
    spread: float
    """Of (truth - mean) / standard deviation, by its median: how many times wider draws would have to be."""
    note: str = ""

    @property
    def histogram(self) -> np.ndarray:
        """Ranks in each of 20 bins."""
        return np.histogram(self.ranks, ranks.BINS, (0, ranks.DRAWS + 1))[0]

    @property
    def row(self) -> dict[str, Any]:
        """As it is printed and kept."""
        return {**ranks.summary(self.ranks), "spread": self.spread}


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def looked_at(known: k.Known) -> np.ndarray:
    """Features from the least to the most expressed tenth."""
    order = np.argsort(np.asarray(known.model.adata.X.mean(0)).ravel())
    return order[(np.linspace(0.1, 0.95, FEATURES) * len(order)).astype(int)]


def quantities(model: Any, cells: k.Cells, z: Tensor, features: np.ndarray, size: Tensor | None = None) -> dict[str, Tensor]:
    """Of draws of z, (draws, cells, dimensions): logs of what the features are expected to be in each cell, and of ratios of two cells."""
    scale, inside = k.decoded(model, z, cells.adata, features, size)
    pairs = scale[:, : 2 * (scale.shape[1] // 2)].log()
    return {"one cell": inside.log(), "ratio of two": pairs[:, ::2] - pairs[:, 1::2]}


class Judge:
    """Holds draws against the truth."""

    def __init__(self, known: k.Known, cells: k.Cells):
        self.known, self.cells, self.features, self.rng = known, cells, looked_at(known), np.random.default_rng(0)
        made = quantities(known.model, cells, cells.z[None], self.features, cells.size)
        self.truth = {"z": cells.z} | {name: v[0] for name, v in made.items()}

    def drawn(self, model: Any, z: Tensor) -> dict[str, Tensor]:
        """The quantities, of draws (draws, cells, dimensions) that this model decodes."""
        return quantities(model, self.cells, z, self.features)

    def of(self, stage: str, method: str, model: Any, z: Tensor, note: str = "") -> Iterator[Found]:
        """What these draws say; z means the same to a model with the known decoder only."""
        yield from self.judged(stage, method, self.drawn(model, z) | ({"z": z} if stage == KNOWN else {}), note)

    def judged(self, stage: str, method: str, drawn: dict[str, Tensor], note: str = "") -> Iterator[Found]:
        """Of draws of the quantities themselves."""
        for name, values in drawn.items():
            found = ranks.ranks_of(self.truth[name].numpy(), values.numpy(), self.rng)
            away = (self.truth[name] - values.mean(0)) / values.std(0).clamp_min(1e-12)
            spread = float(away.abs().median()) / NORMAL
            yield Found(self.known.family.name, stage, method, name, found, spread, note)


def with_known_decoder(known: k.Known, sizes: Sizes) -> Iterator[Found]:
    """From the exact posterior to the encoders."""
    training, asked = known.make(sizes.encoder_cells, 1), known.make(sizes.asked, 2)
    judge, name, stage = Judge(known, asked), known.family.name, KNOWN
    all_here, all_there = (
        [encoder(known, training.adata, sizes.encoder_epochs, seed) for seed in range(sizes.encoders)]
        for encoder in (k.encoder_here, k.encoder_there)
    )
    assert all(k.unmoved(known, model) for model in (*all_here, *all_there)), "a decoder learnt"
    with settings.private_seed(0):
        ours, theirs = ([k.posterior(model, asked.adata) for model in models] for models in (all_here, all_there))
        exact, plug_in = k.joint_of(known.model, asked, asked.size), k.joint_of(all_here[0], asked)
        best = best_normal(plug_in, ours[0])
        for method, joint in ((EXACT, exact), (PLUG_IN, plug_in)):
            chains = hamiltonian(joint, best, ranks.DRAWS)
            say(f"{name}, {method}: R-hat {chains.r_hat.median():.3f} (most {chains.r_hat.max():.3f})")
            yield from judge.of(
                stage, method, known.model, chains.draws, f"R-hat, 95 % of the cells below {chains.r_hat.quantile(0.95):.2f}"
            )
        for plain, again, normals in ((BEST, BEST_WEIGHTED, [best]), (OURS, OURS_WEIGHTED, ours), (PEER, None, theirs)):
            yield from of_seeds(f for q in normals for f in judge.of(stage, plain, known.model, q.sample((ranks.DRAWS,))))
            if again is not None:
                drawn = [weighted(plug_in, q, ranks.DRAWS) for q in normals]
                note = f"effective share of draws, median {torch.cat([share for _, share in drawn]).median():.3f}"
                yield from of_seeds(f for z, _ in drawn for f in judge.of(stage, again, known.model, z, note))


def of_seeds(found: Iterable[Found]) -> Iterator[Found]:
    """What several trainings say, as one: seeds of an encoder differ by more than the cells make likely."""
    by_quantity: dict[str, list[Found]] = {}
    for one in found:
        by_quantity.setdefault(one.quantity, []).append(one)
    for of in by_quantity.values():
        spread = float(np.median([one.spread for one in of]))
        yield replace(of[0], ranks=np.concatenate([one.ranks for one in of]), spread=spread)


@dataclass(frozen=True)
class Learnt:
    """Models that learnt from cells of a known decoder; these cells; the peer's own model."""

    known: k.Known
    cells: k.Cells
    models: dict[str, Any]
    theirs: Any


def learnt(known: k.Known, sizes: Sizes, cells: k.Cells) -> Learnt:
    """Train them; further plans, where the default does not minimise the ELBO."""
    family = known.family
    models = {"scelbo": k.trained_here(family, cells.adata, sizes.learnt_epochs)}
    for seed in range(1, sizes.ensemble):
        models[f"scelbo, seed {seed}"] = k.trained_here(family, cells.adata, sizes.learnt_epochs, seed, family.plan)
    if family.plan:
        models[f"scelbo, plan {family.plan!r}"] = k.trained_here(family, cells.adata, sizes.learnt_epochs, 0, family.plan)
    theirs, models["scvi-tools"] = k.trained_there(family, cells.adata, sizes.learnt_epochs)
    return Learnt(known, cells, models, theirs)


def as_users_train(found: Learnt, sizes: Sizes) -> Iterator[Found]:
    """Draws of each model, of several trainings together, and of the exact posterior of a learnt decoder."""
    known, stage = found.known, LEARNT
    asked = found.cells.part(np.arange(sizes.asked))
    judge = Judge(known, asked)
    with settings.private_seed(0):
        best_plan = f"scelbo, plan {known.family.plan!r}" if known.family.plan else "scelbo"
        for name, model in found.models.items():
            if "seed" not in name:
                yield from judge.of(stage, name, model, k.posterior(model, asked.adata).sample((ranks.DRAWS,)))
        if sizes.ensemble < 2:
            return
        model = found.models[best_plan]
        q, joint = k.posterior(model, asked.adata), k.joint_of(model, asked)
        chains = hamiltonian(joint, best_normal(joint, q), ranks.DRAWS)
        yield from judge.of(stage, "scelbo's decoder, exact posterior", model, chains.draws)
        several = [m for name, m in found.models.items() if name == best_plan or "seed" in name]
        yield from judge.judged(stage, f"scelbo, {len(several)} trainings together", together(judge, several, asked))


def together(judge: Judge, models: list[Any], asked: k.Cells) -> dict[str, Tensor]:
    """Draws of several models, as many of each."""
    share = -(-ranks.DRAWS // len(models))
    drawn = [judge.drawn(m, k.posterior(m, asked.adata).sample((share,))) for m in models]
    return {name: torch.cat([part[name] for part in drawn])[torch.randperm(share * len(models))[: ranks.DRAWS]] for name in drawn[0]}
