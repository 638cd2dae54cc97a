"""``scelbo compile``: the loops that training and questions spend their time in, so that nobody has to wait for them later."""

from __future__ import annotations

from typing import Any

from scelbo import PEAKVI, SCVI, kernels, settings
from scelbo.data.simulate import counts


def compile_loops() -> int:
    """Use every loop once, on a few cells; says how it went, as an exit status."""
    if not (settings.compiled and kernels.present()):
        settings.say("There is nothing to compile: PyTorch does the work (SCELBO_COMPILED=0, or numba is not installed).")
        return 1
    settings.say("Compiling the loops that training and questions spend their time in ...")
    adata, said = counts(64, 20), settings.progress
    settings.progress = False
    for kind in (PEAKVI, SCVI):
        kind.setup_anndata(adata)
        model: Any = kind(adata, n_hidden=8, n_latent=2)
        model.train(1, accelerator="cpu")
    for mode in ("vanilla", "change"):
        model.differential_expression(groupby="cell_type", group1="type0", group2="type1", mode=mode)
    settings.progress = said
    settings.say("They are compiled.")
    return 0
