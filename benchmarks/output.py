"""What benchmarks say and draw: no more than they are asked for."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def quiet() -> None:
    """No bars, no warnings, no word of Lightning's or scvi-tools'; one thread."""
    import scvi
    import torch

    import scelbo

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    scelbo.settings.progress, scvi.settings.verbosity = False, logging.ERROR
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def save(figure: Figure, stem: Path | str) -> None:
    """As ``STEM.svg``: small, and the same of the same numbers."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": Path(stem).name}):
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
