"""From latents to expression: the one place where questions decode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Bool
from torch import Tensor

from scelbo.data import Batch, Counts
from scelbo.errors import ArgumentError, unknown
from scelbo.module import draw

if TYPE_CHECKING:
    from scelbo.model import Model

FEWEST_ROWS, MOST_ROWS, VALUES_AT_ONCE = 64, 512, 2**22
"""Of what is decoded together: cells, and cells x features."""


def decode(
    model: Model,
    cells: Batch,
    views: Sequence[dict[str, float]],
    draws: int | None,
    library_size: float | Literal["latent"] = 1,
    genes: np.ndarray | None = None,
    of: str = "x",
    read: Callable[[Any], Tensor] | None = None,
    out: np.ndarray | None = None,
) -> Tensor:
    """Expression of these cells, averaged over the counterfactual views: (cells, genes), or (draws, cells, genes).

    ``of``: the field whose features are asked for; ``read``: what is read of their likelihood, instead of its scale; ``out``: an array of
    the answer's shape, to write it to: large ones cost as much to copy as to make.
    """
    module: Any = model.module
    q = module.posterior_of_scale(cells) if scale_only(library_size, read) else module.posterior(cells)
    return decode_at(model, draw(q, draws, mean=draws is None), cells, views, library_size, genes, of, read, out)


def decode_at(
    model: Model,
    z: Any,
    cells: Batch,
    views: Sequence[dict[str, float]],
    library_size: float | Literal["latent"] = 1,
    genes: np.ndarray | None = None,
    of: str = "x",
    read: Callable[[Any], Tensor] | None = None,
    out: np.ndarray | None = None,
) -> Tensor:
    """The same at these latents."""
    module: Any = model.module
    direct = out is not None and out.flags.c_contiguous and model.device.type == "cpu" and len(views) == 1
    place = torch.from_numpy(out) if direct else None
    where = {"out": place} if place is not None and "out" in signature(module.scale_of).parameters else {}  # a model may write there itself
    total: Tensor | None = None
    some = None if genes is None else _positions(genes, model.device)
    for view in views:
        seen = cells.replace(view)
        only = None if some is None else module.generative_of(some, z, seen, of)
        if only is None and scale_only(library_size, read):
            values = module.scale_of(of, z, seen, **(where if some is None else {}))
        else:
            explained = module.likelihood_of(of, z, seen) if only is None else only
            values = read(explained) if read else explained.mean if library_size == "latent" else explained.scale
        values = values if some is None or only is not None else values[..., some]
        total = values if total is None else total + values
    assert total is not None
    if len(views) > 1:
        total = total / len(views)
    if library_size not in ("latent", 1.0):
        total = torch.mul(total, float(library_size), out=place)
    if out is not None and total is not place:
        out[...] = total.cpu().numpy()
    return total


def scale_only(library_size: float | Literal["latent"], read: Callable[[Any], Tensor] | None) -> bool:
    """Whether nothing of a likelihood is asked for but its scale."""
    return read is None and library_size != "latent"


def rows_at_once(n_features: int) -> int:
    """Cells that are decoded together: what a layer puts out should stay in the processor's cache."""
    return min(MOST_ROWS, max(FEWEST_ROWS, VALUES_AT_ONCE // n_features))


def _positions(features: np.ndarray, device: torch.device) -> Tensor | slice:
    """Neighbours as a slice, which copies nothing."""
    first, last = (int(features[0]), int(features[-1])) if len(features) else (0, -1)
    return slice(first, last + 1) if (np.diff(features) == 1).all() else torch.from_numpy(features).to(device)


def explained_fields(model: Model) -> dict[str, str]:
    """What users call the matrices that these data have -> their fields."""
    return {name: of for name, of in model.modalities.items() if of in model.setup.features}


def has(model: Model, cells: Batch, of: str) -> Tensor:
    """Which of the cells have anything measured in a field, (cells,)."""
    module: Any = model.module
    there = module.measured_in(cells, of)
    return torch.ones(len(cells), dtype=torch.bool, device=model.device) if there is None else (there > 0).any(1)


def showing(model: Model, cells: Batch, fields: Collection[str]) -> Any:
    """The cells as if only these matrices had been measured, and of those only what was in the model's own cells."""
    out: dict[str, Any] = dict(cells.__dict__)
    for of in explained_fields(model).values():
        x = out[of]
        if isinstance(x, Counts):
            absent = pd.Index(model.setup.absent.get(of, ())) if of in fields else pd.Index(model.setup.features[of])
            if len(absent):
                kept = torch.from_numpy(~pd.Index(model.setup.features[of]).isin(absent))
                out[of] = x.within(kept.to(x.val.device))
        elif of not in fields:
            out[of] = torch.zeros_like(x)
    return type(cells)(**out)


def shown_in(model: Model, adata: AnnData | None = None, indices: Any = None, batch_size: int | None = None) -> Bool[np.ndarray, "cells n"]:
    """Which of the matrices that the model explains each cell has, in features that the model's own cells have too."""
    fields = explained_fields(model).values()
    parts = [np.zeros((0, len(fields)), bool)]
    for cells in model.batches(adata, indices, batch_size):
        shown = showing(model, cells, fields)
        there = [has(model, shown, of) & (_sizes(getattr(shown, of)) > 0) for of in fields]
        parts.append(torch.stack(there, 1).cpu().numpy())
    return np.concatenate(parts)


def _sizes(x: Counts | Tensor) -> Tensor:
    return x.size[:, 0] if isinstance(x, Counts) else torch.ones_like(x[:, 0])


def genes_of(model: Model, gene_list: Sequence[str] | None, of: str = "x") -> np.ndarray | None:
    """Positions of the features named, among those of a field; None for all."""
    known = names_of(model, None, of)
    if gene_list is None:
        return None
    if isinstance(gene_list, str):
        gene_list = [gene_list]
    at = known.get_indexer(pd.Index(gene_list))
    for name, i in zip(gene_list, at, strict=True):
        if i < 0:
            raise ArgumentError(unknown("gene" if of == "x" else f"feature of {of!r}", name, known))
    return at


def names_of(model: Model, genes: np.ndarray | None, of: str = "x") -> pd.Index:
    """The names of the features at these positions; None for all."""
    if of not in model.setup.features:
        called = next((name for name, field in model.modalities.items() if field == of), of)
        raise ArgumentError(
            f"This model's data have no {called}: it explains {', '.join(explained_fields(model))}.",
            f"Set up data that have it, with {model.Cells.fields()[of].argument}, and train a model of these.",
        )
    names = pd.Index(model.setup.features[of])
    return names if genes is None else names[genes]


def counterfactuals(model: Model, transform_batch: Any = None, transform: dict[str, Any] | None = None) -> list[dict[str, float]]:
    """What to replace in the cells before decoding: one view for every batch asked for."""
    fixed: dict[str, float] = {}
    numbers = list(model.setup.keys.get("continuous_covariate_keys") or [])
    categories = {c.removeprefix("extra."): c for c in model.setup.categories}
    own = {name: model.setup.keys.get(f.argument) for name, f in model.Cells.fields().items() if f.kind == "category"}
    categories |= {str(column): covariate for covariate, column in own.items() if column is not None}  # by its column's name too
    for column, value in (transform or {}).items():
        if column in numbers:
            fixed[f"numbers.{numbers.index(column)}"] = float(value)
        elif column in categories:
            fixed[categories[column]] = model.setup.code(categories[column], value)
        else:
            raise ArgumentError(unknown("covariate", column, [*categories, *numbers]))
    if transform_batch is None:
        return [fixed]
    asked = [transform_batch] if isinstance(transform_batch, str) or np.ndim(transform_batch) == 0 else list(transform_batch)
    return [{**fixed, "batch": model.setup.code("batch", b)} for b in asked]
