"""What a file says of a model is believed within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SLACK, SMALLEST = 1_000_000, 500
"""Numbers that a module may hold or make beside four times its weights; each matrix counts at least as this many."""


def check_numbers(weights: Mapping[str, Tensor]) -> None:
    """Raise where a weight is no number; one may be minus infinity, the logarithm of nothing."""
    for name, value in weights.items():
        if value.is_floating_point() and (value.isnan() | value.isposinf()).any():
            raise ValueError(f"its weights {name} are not all numbers")


class AsLargeAs(TorchDispatchMode):
    """While it lasts no more numbers are made than some weights are, give or take: a damaged size is an error, not a full memory."""

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        self.left = SLACK + 4 * sum(max(SMALLEST, w.numel()) for w in weights.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], list | tuple) and all(isinstance(n, int) for n in args[0]):
            self.left -= max(SMALLEST, math.prod(args[0]))
            if self.left < 0:
                raise ValueError("arguments and set-up make a larger model than the weights are of")
        return func(*args, **(kwargs or {}))
