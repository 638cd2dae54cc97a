"""Loops that numba compiles (on a GPU Triton, :mod:`scelbo.kernels.gpu`), for the few places where training spends its time.

Torch does the same wherever these cannot: they work on float32. ``SCELBO_COMPILED=0``, or ``settings.compiled = False``, leaves all to
torch. Machine code is kept beside the files (or in numba's own folder, where those may not be written), so only the first use of all
waits. numba notices when the file of a loop changes, and not when what it calls does: after a change of ``maths.py`` remove
``__pycache__``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scelbo import settings


@cache
def present() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


def compiled(*values: Tensor) -> bool:
    """Whether the compiled loops are to work on these."""
    return settings.compiled and present() and all(v.dtype == torch.float32 and v.device.type == "cpu" for v in values)


def fused(*values: Tensor) -> bool:
    """Whether the kernels for a GPU are to work on these."""
    on_gpu = all(v.dtype == torch.float32 and v.device.type == "cuda" for v in values)
    return on_gpu and settings.compiled and find_spec("triton") is not None


def in_words(*values: Tensor) -> str:
    """Whose loops do the work on these, for people who look at a model."""
    return "compiled loops" if compiled(*values) else "Triton's kernels" if fused(*values) else "PyTorch's loops"


@cache
def loop(module: str, name: str) -> Any:
    """One of them; the first of all times it is compiled, and the user told why that takes a while."""
    found = getattr(import_module(f"scelbo.kernels.{module}"), name)
    if not any(Path(found.stats.cache_path).glob(f"{module}.{name}-*.nbi")):
        settings.say("Compiling loops that this spends its time in: some seconds, this once. (scelbo compile does it ahead.)")
    return found


def array(values: Tensor) -> np.ndarray:
    """The numbers of a tensor, one after the other in memory: shared, where they are so already."""
    return values.detach().contiguous().numpy()
