"""The developer's surface with its signatures: `make surface` writes docs/developer/surface.md, a test compares it."""

from __future__ import annotations

import inspect
import re
import sys
from inspect import getattr_static
from operator import attrgetter
from pathlib import Path
from typing import Any

import scelbo.pyro
import scelbo.testing
from scelbo.surface import MEMBERS, STABLE, VERSION

PAGE = Path(__file__).resolve().parents[2] / "docs" / "developer" / "surface.md"
HEAD = """# The developer's surface

Written by `make surface` from the code. These names keep their meaning while the first number of the version is the same; the second rises
when something is added. All else may change with any release. A package of models says which version it was written for:
`scelbo.surface.require("{version}")`.

Version {version}
"""


def named(module: str, name: str) -> Any:
    """The object itself."""
    return getattr(scelbo if module == "scelbo" else attrgetter(module.removeprefix("scelbo."))(scelbo), name)


def _parameters(value: Any) -> list[str]:
    listed = list(inspect.signature(value).parameters.values())
    return [str(p.replace(annotation=p.empty)) for p in listed if p.name != "self"]


def shown(name: str, value: Any) -> str:
    """How it is called: arguments and defaults, without types."""
    return f"{name}({', '.join(_parameters(value))})" if callable(value) else name


def methods(value: Any) -> list[str]:
    """What a class offers to call, or to override, that its base among the stable classes does not."""
    if not inspect.isclass(value):
        return []
    names = {name for c in value.__mro__ if c.__module__.startswith("scelbo") for name in vars(c) if not name.startswith("_")}
    stable = MEMBERS.get(value.__name__, names)
    bases = [c for c in value.__mro__[1:] if c.__module__.startswith("scelbo")]
    inherited = lambda name: any(getattr_static(base, name, None) is getattr_static(value, name) for base in bases[:1])  # noqa: E731
    found = {
        name: getattr(value, name)
        for name in sorted(names.intersection(stable))
        if name in MEMBERS.get(value.__name__, ()) or not inherited(name)
    }
    return [shown(name, f) for name, f in found.items() if (callable(f) or isinstance(f, property)) and not inspect.isclass(f)]


def said(value: Any) -> str:
    """The first sentence of the docstring."""
    text = inspect.getdoc(value) or ""
    first = text.split("\n\n")[0].replace("\n", " ").replace("``", "`")
    return "" if isinstance(value, str | dict) else re.sub(r":\w+:`~?([^`]+)`", r"`\1`", first)


def page() -> str:
    """The whole page."""
    lines = [HEAD.format(version=VERSION)]
    for module, names in STABLE.items():
        lines.append(f"## `{module}`\n")
        for name in names:
            value = named(module, name)
            told = said(value)
            lines.append(f"- `{shown(name, value)}`" + (f": {told}" if told else ""))
            lines += [f"  - `.{method}`" for method in methods(value)]
        lines.append("")
    return "\n".join(lines)


def bump_needed(old: str, new: str) -> str:
    """``"major"`` where something is gone or is called otherwise, ``"minor"`` where something was added, ``""`` where nothing was."""
    calls = lambda text: set(re.findall(r"^ *- `(.*?)`", text, re.M))  # noqa: E731
    return "major" if calls(old) - calls(new) else "minor" if calls(new) - calls(old) else ""


def enough(old: str, new: str) -> bool:
    """Whether the version has risen as it must."""
    before, after = ([int(n) for n in re.search(r"^Version (\S+)$", text, re.M)[1].split(".")] for text in (old, new))  # type: ignore[index]
    return {"major": after[0] > before[0], "minor": after > before, "": True}[bump_needed(old, new)]


if __name__ == "__main__":
    old, new = PAGE.read_text() if PAGE.exists() else "Version 0.0\n", page()
    if not enough(old, new):
        sys.exit(f"the surface changed: raise the {bump_needed(old, new)} number of VERSION in python/scelbo/surface.py first")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(new)
