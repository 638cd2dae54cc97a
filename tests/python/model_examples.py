"""The modules in examples/models, which are no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "models"


def example(name: str) -> ModuleType:
    """One of them, imported once."""
    whole = f"examples_{name}"
    if whole not in sys.modules:
        spec = importlib.util.spec_from_file_location(whole, FOLDER / f"{name}.py")
        sys.modules[whole] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[whole])
    return sys.modules[whole]
