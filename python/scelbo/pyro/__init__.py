"""Models written as a Pyro model and guide (extra ``pyro``)."""

from scelbo.errors import BackendError

try:
    import pyro as _  # noqa: F401
except ImportError as missing:
    raise BackendError("Models written in Pyro need the package pyro-ppl.", "pip install 'scelbo[pyro]'") from missing

from scelbo.pyro.explained import Explained, explains
from scelbo.pyro.model import PyroModel
from scelbo.pyro.module import PyroModule
from scelbo.pyro.sites import Site

__all__ = ["Explained", "PyroModel", "PyroModule", "Site", "explains"]
