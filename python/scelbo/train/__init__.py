"""Training. ``fit`` and ``plan`` import Lightning, so they are imported only when training starts, or :class:`Plan` is asked for."""

from typing import Any

from scelbo.train.options import PlanOptions, TrainOptions

__all__ = ["Plan", "PlanOptions", "TrainOptions"]


def __getattr__(name: str) -> Any:
    if name != "Plan":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from scelbo.train.plan import Plan

    return Plan
