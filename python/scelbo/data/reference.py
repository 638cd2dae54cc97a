"""Spots beside a reference of dissociated cells: which genes both have, and what became of the others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scelbo import settings
from scelbo.data.fields import Batch
from scelbo.data.matrix import row_blocks
from scelbo.data.modalities import Data, held
from scelbo.data.setup import UNS, Setup
from scelbo.errors import DataError, DataWarning

FEW = 100
"""Shared genes below which types can hardly be told apart."""
LEFT_OUT = ("not in the spots", "not in the reference", "no counts in the spots", "no counts in the reference")


def set_up_spots(model: Any, adata: Data, keys: Mapping[str, Any] | None) -> Setup:
    """The set-up of the spots for a model class; where they have none (or ``keys`` are given) it is made here."""
    if keys is not None or model.__name__ not in adata.uns.get(UNS, {}):
        model.setup_anndata(adata, **(keys or {}))
    return Setup.stored(adata, model.__name__)


def genes_of_both(
    adata: Data, setup: Setup, cells_type: type[Batch], reference: Sequence[str], counted: Tensor
) -> tuple[Setup, dict[str, list[str]]]:
    """The set-up, bound to the genes that spots and reference share, in the reference's order; and why -> the genes left out.

    Parameters
    ----------
    adata, setup, cells_type
        The spots.
    reference, counted
        The reference's genes, and whether any of its cells has counts of each.

    Raises
    ------
    DataError
        They share none.
    """
    there: Any = held(adata, cells_type.fields()["x"], setup.keys)
    theirs, ours = pd.Index(reference), there.names
    seen = np.sum([np.asarray(abs(rows).sum(0)).ravel() for _, rows in row_blocks(there.matrix)], 0) > 0
    at = ours.get_indexer(theirs)
    known, counts, here = counted.cpu().numpy(), np.where(at >= 0, seen[at], False), at >= 0
    why = dict(
        zip(LEFT_OUT, (theirs[~here], ours[~ours.isin(theirs)], theirs[here & ~counts], theirs[here & counts & ~known]), strict=True)
    )
    names = theirs[here & counts & known]
    if not len(names):
        some = f"reference: {', '.join(theirs[:4])}; spots: {', '.join(ours[:4])}"
        raise DataError(f"Reference and spots share no gene ({some}).", "Genes are matched by name: give both the same kind of names.")
    left = {reason: list(genes) for reason, genes in why.items() if len(genes)}
    said = "; ".join(
        f"{len(genes):,} are {reason}" if reason.startswith("not") else f"{len(genes):,} have {reason}" for reason, genes in left.items()
    )
    text = f"{len(names):,} genes are in reference and spots.{f' Left out: {said} (get_genes() lists them).' if said else ''}"
    if len(names) < min(FEW, len(theirs) / 2):
        warnings.warn(f"{text} So few may not tell types apart.", DataWarning, stacklevel=3)
    else:
        settings.say(text)
    return setup.bind(adata, cells_type, names), left
