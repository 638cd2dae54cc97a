"""One file a model."""

from scelbo.models.scvi import SCVI

__all__ = ["SCVI"]
