"""Training. ``fit`` and ``plan`` import Lightning, so they are imported only when training starts."""

from scelbo.train.options import PlanOptions, TrainOptions

__all__ = ["PlanOptions", "TrainOptions"]
