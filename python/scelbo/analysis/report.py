"""One page about a trained model: what was reached, what it explains and what not, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scelbo import settings
from scelbo.analysis.elbo import elbo, latent_kl, reconstruction_error
from scelbo.analysis.latent import latent_representation
from scelbo.analysis.page import page
from scelbo.analysis.predictive_check import PredictiveCheck, cells_to_check, posterior_predictive_check
from scelbo.analysis.verdicts import COLLAPSED, Verdict, verdicts_of
from scelbo.arguments import named
from scelbo.data import at_most
from scelbo.errors import ArgumentError, BackendError, one_of, unknown
from scelbo.pl.cells import principal_two
from scelbo.whole import whole

if TYPE_CHECKING:
    from scelbo.model import Model

CELLS = 5000
"""Cells at most that are shown in the latent space; the ELBO is asked of as many training and held-out cells."""


@dataclass(frozen=True, repr=False)
class Report:
    """What :func:`report` found; ``html()`` is the page.

    Attributes
    ----------
    title
        The model.
    verdicts
        Every number with what it means and what to do: :class:`Verdict`.
    history
        Name -> data frame by epoch, as ``model.history``.
    latent_kl
        (n_latent,) KL of each latent dimension, nats a cell.
    fit
        A row for training and for held-out cells: ``cells, elbo, elbo_se`` (standard error), ``reconstruction, kl``, nats a cell.
    predictive
        The :class:`~scelbo.analysis.predictive_check.PredictiveCheck`.
    embedding
        Cells x two coordinates (PCA or UMAP of the latent space), and the columns that colour them.
    """

    title: str
    verdicts: list[Verdict]
    history: dict[str, pd.DataFrame]
    latent_kl: np.ndarray
    fit: pd.DataFrame
    predictive: PredictiveCheck
    embedding: pd.DataFrame

    @property
    def numbers(self) -> dict[str, float]:
        """Name -> value of every verdict."""
        return {v.name: v.value for v in self.verdicts}

    @property
    def concerns(self) -> list[str]:
        """What is not as it should be, each with what to do."""
        return [f"{v.name}: {v.shown}. {v.advice}" for v in self.verdicts if not v.good]

    @property
    def collapsed(self) -> list[int]:
        """Latent dimensions (from 0) that say nothing about cells."""
        return [int(d) for d in np.flatnonzero(self.latent_kl < COLLAPSED)]

    def html(self) -> str:
        """The page: one file with its figures inside, that needs no network and no script.

        Raises
        ------
        BackendError
            matplotlib is not installed.
        """
        return page(self)

    def __repr__(self) -> str:
        lines = [f"  {' ' if v.good else '!'} {v.name}: {v.shown}" + ("" if v.good else f"\n      {v.advice}") for v in self.verdicts]
        return "\n".join([self.title, *lines])


@named
def report(
    self: Model,
    path: str | Path | None = None,
    *,
    labels_key: str | None = None,
    adata: AnnData | None = None,
    n_samples: int = 25,
    n_cells: int | None = None,
    embedding: Literal["pca", "umap"] = "pca",
    seed: int | None = None,
) -> Report:
    """What training reached, whether the model over-fits, which latent dimensions it uses, and whether its draws look like the data.

    Parameters
    ----------
    path
        Write the page there: one HTML file. None writes nothing.
    labels_key
        Column of ``obs`` that colours the latent space, beside the batch; by default the one of ``setup_anndata``, if any.
    adata
        Other data than the model's.
    n_samples, n_cells
        Draws and cells of the posterior predictive check.
    embedding
        How the latent space is laid out in two dimensions; ``"umap"`` needs the package umap-learn.
    seed
        Of all draws.

    Returns
    -------
    :class:`Report`: prints what deserves a look; the figures' numbers are its attributes.

    Raises
    ------
    ArgumentError
        ``labels_key`` is no column of ``obs``.
    BackendError
        The page needs matplotlib, and ``"umap"`` umap-learn.

    Examples
    --------
    >>> from scelbo import SCVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(200, 50)
    >>> SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = SCVI(adata)
    >>> model.train(max_epochs=4, plan_kwargs={"n_epochs_kl_warmup": 400}, progress=False)
    >>> found = model.report(labels_key="cell_type")
    >>> found.numbers["KL weight"]
    0.0075
    """
    self.require_trained()
    one_of("embedding", embedding, ("pca", "umap"))
    source = self.adata if adata is None else adata
    if labels_key is not None and source is not None and labels_key not in source.obs:
        raise ArgumentError(unknown("labels_key", labels_key, source.obs.columns))
    keys = [k for k in (self.setup.keys.get("batch_key"), labels_key or self.setup.keys.get("labels_key")) if isinstance(k, str)]
    seed = settings.fresh_seed(seed)  # one for all parts
    fit = _fit(self, adata, seed)
    kl = latent_kl(self, adata, _some(self, adata, seed))
    predictive = posterior_predictive_check(self, adata, n_samples=n_samples, n_cells=n_cells, seed=seed)
    verdicts = verdicts_of(self, fit, kl, predictive)
    found = Report(repr(self), verdicts, self.history, kl, fit, predictive, _embedding(self, adata, keys, embedding, seed))
    if path is not None:
        with whole(path) as new:
            new.write_text(found.html(), encoding="utf-8")
    return found


# ---------------------------------------------------------------------- numbers
def _some(model: Model, adata: AnnData | None, seed: int, index: np.ndarray | None = None) -> np.ndarray:
    index = np.arange(model.read(adata).n_obs) if index is None else index
    with settings.private_seed(seed) as rng:
        return at_most(index, CELLS, rng)


def _fit(model: Model, adata: AnnData | None, seed: int) -> pd.DataFrame:
    kept, held_out = cells_to_check(model, adata)
    sets = {"training": model.train_indices, "held out": kept} if held_out else {"all": kept}
    rows = {}
    for name, index in sets.items():
        some = _some(model, adata, seed, index)
        bound = np.asarray(elbo(model, adata, some, return_mean=False, seed=seed), float)
        nll = reconstruction_error(model, adata, some, seed=seed)["reconstruction_loss"]
        se = bound.std(ddof=1) / len(bound) ** 0.5 if len(bound) > 1 else np.nan
        rows[name] = {"cells": len(some), "elbo": bound.mean(), "elbo_se": se, "reconstruction": nll, "kl": -bound.mean() - float(nll)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _embedding(model: Model, adata: AnnData | None, keys: list[str], kind: str, seed: int) -> pd.DataFrame:
    index = _some(model, adata, seed)
    z = np.asarray(latent_representation(model, adata, index, mc_samples=250, seed=seed), float)
    at = _umap(z, seed) if kind == "umap" else principal_two(z)
    obs = (model.adata if adata is None else adata).obs.iloc[index]  # type: ignore[union-attr]
    places = pd.DataFrame(at, index=obs.index, columns=[f"{'UMAP' if kind == 'umap' else 'PC'}{i}" for i in (1, 2)])
    return places.assign(**{key: obs[key].astype(str) for key in keys})


def _umap(z: np.ndarray, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise BackendError("embedding='umap' needs the package umap-learn.", "pip install umap-learn, or embedding='pca'.") from None
    return UMAP(random_state=seed, n_jobs=1).fit_transform(z)
