"""Counts, fields, setup, loaders and readers."""

from scelbo.data import simulate
from scelbo.data.columns import Columns
from scelbo.data.counts import Counts
from scelbo.data.disk import read_backed
from scelbo.data.fields import (
    Batch,
    Cells,
    Field,
    LabelledCells,
    MarkerCells,
    MultiCells,
    PlainCells,
    SizedCells,
    Spots,
    TypedCells,
    TypedSizedCells,
    categories,
    category,
    counts,
    means,
    number,
    numbers,
    table,
)
from scelbo.data.inputs import Beside, Input
from scelbo.data.joint import join, joined, kind_of
from scelbo.data.loaders import Loader, at_most, index_of, split
from scelbo.data.modalities import Data
from scelbo.data.readers import counts_from_log, pbmc68k, reads_to_fragments
from scelbo.data.reference import genes_of_both, set_up_spots
from scelbo.data.setup import Setup, Source
from scelbo.data.shuffle import prepare
from scelbo.data.tenx import read_10x_atac, read_10x_multiome

__all__ = [
    "Batch", "Beside", "Cells", "Columns", "Counts", "Data", "Field", "Input", "LabelledCells", "Loader", "MarkerCells", "MultiCells",
    "PlainCells", "Setup", "SizedCells", "Source", "Spots", "TypedCells", "TypedSizedCells", "at_most", "categories", "category", "counts",
    "counts_from_log", "genes_of_both", "index_of", "join", "joined", "kind_of", "means", "number", "numbers", "pbmc68k", "prepare",
    "read_10x_atac", "read_10x_multiome", "read_backed", "reads_to_fragments", "set_up_spots", "simulate", "split", "table",
]  # fmt: skip
