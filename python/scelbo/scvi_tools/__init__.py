"""Models that scvi-tools saved, and models for scvi-tools.

Only the format of its files, and the names and shapes of its weights, are known here; scvi-tools itself is not needed.
"""

from scelbo.scvi_tools.loading import found, load
from scelbo.scvi_tools.saving import save

__all__ = ["found", "load", "save"]
