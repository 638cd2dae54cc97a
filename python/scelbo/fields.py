"""What a model reads: classes of minibatches, and the fields that their attributes are declared with."""

from scelbo.data.fields import (
    Batch,
    Cells,
    PlainCells,
    SizedCells,
    TypedCells,
    categories,
    category,
    counts,
    number,
    numbers,
    table,
)

__all__ = ["Batch", "Cells", "PlainCells", "SizedCells", "TypedCells", "categories", "category", "counts", "number", "numbers", "table"]
