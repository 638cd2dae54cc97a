"""Command-line options of what Python takes as arguments: names, types, defaults and help are read off, never written down again."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scelbo.data import Batch, Field
from scelbo.errors import ArgumentError, StorageError, unknown
from scelbo.model import Model
from scelbo.train import PlanOptions

KINDS = {
    "counts": "layer of counts; X, if there is no such option",
    "matrix": "entry of obsm with counts of further features",
    "category": "column of obs with categories",
    "categories": "columns of obs with categories",
    "numbers": "columns of obs with numbers",
    "number": "column of obs with numbers above zero",
}
NOT_HERE = ("adata", "self", "indices", "idx1", "idx2", "out", "lazy", "progress", "plan_kwargs", "path", "reference")
"""Arguments that say which cells, or in which form a program wants the answer."""


@dataclass(frozen=True)
class Option:
    """One argument of Python as an option.

    Attributes
    ----------
    name
        What Python calls it.
    kind
        Its annotation, as text.
    default
        What holds without it, or ``inspect.Parameter.empty``.
    help
        What it is.
    """

    name: str
    kind: str
    default: Any = inspect.Parameter.empty
    help: str = ""

    @property
    def flag(self) -> str:
        """``batch_key`` is ``--batch``.

        >>> [Option(name, "str").flag for name in ("batch_key", "categorical_covariate_keys", "n_latent")]
        ['--batch', '--categorical', '--n-latent']
        """
        return "--" + re.sub(r"(_covariate)?_keys?$", "", self.name).replace("_", "-")

    @property
    def words(self) -> set[str]:
        """Of the annotation."""
        return set(re.findall(r"\w+", self.kind))

    @property
    def several(self) -> bool:
        """Whether it takes more than one value."""
        return bool(self.words & {"list", "Sequence", "tuple", "dict", "Mapping"})

    @property
    def can_be_typed(self) -> bool:
        """Whether it can be said on a command line: no function, no data."""
        return self.name not in NOT_HERE and not self.name.startswith("return_") and not self.words & {"Callable", "Effect", "Model"}

    def add_to(self, group: Any) -> None:
        """Let a parser (or a group of it) take this option; what is not given stays out of the result."""
        empty = self.default is inspect.Parameter.empty or self.default is None
        told = self.help + ("" if empty else f" (default: {_shown(self.default)})")
        own: dict[str, Any] = {"dest": self.name, "default": argparse.SUPPRESS, "help": told.replace("%", "%%") or " "}
        if "bool" in self.words and not self.several:
            group.add_argument(self.flag, action=argparse.BooleanOptionalAction, **own)
        elif self.words & {"dict", "Mapping"}:
            group.add_argument(self.flag, nargs="+", metavar="NAME=VALUE", **own)
        else:
            choices = re.findall(r"['\"]([\w -]+)['\"]", self.kind)
            named = ["N"] * bool(self.words & {"int", "float"}) + choices
            what = "{" + ",".join(named) + "}" if choices else "".join(named) or "NAME"
            group.add_argument(self.flag, metavar=what, **own, **({"nargs": "+"} if self.several else {}))

    def value(self, given: Any) -> Any:
        """What Python takes, from the words on the command line."""
        if isinstance(given, bool):
            return given
        if isinstance(given, str):
            return self._one(given)
        if self.words & {"dict", "Mapping"} and ("=" in given[0] or given[0].endswith(".json")):
            return self._pairs(given)
        values = [self._one(word) for word in given]
        return values[0] if len(values) == 1 and re.match(r"(str|int|float|Any)\b", self.kind) else values

    def _one(self, text: str) -> Any:
        if text == "None" and "None" in self.words:
            return None
        if "bool" in self.words and text.lower() in ("true", "false"):
            return text.lower() == "true"
        for number in (int, float):
            if self.words & {number.__name__, "Any"}:
                with contextlib.suppress(ValueError):
                    return number(text)
        if self.words & {"str", "Path", "Literal", "Any"}:
            return text
        raise ArgumentError(f"{self.flag} {text} is not allowed: it must be a {'number' if 'float' in self.words else 'whole number'}.")

    def _pairs(self, given: list[str]) -> dict[str, Any]:
        """``B=CD19,MS4A1`` pair by pair, or one JSON file of them all."""
        if len(given) == 1 and given[0].endswith(".json"):
            try:
                return json.loads(Path(given[0]).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise StorageError(f"{given[0]!r} cannot be read: {error}.", f"{self.flag} takes NAME=VALUE, or a JSON file.") from None
        if bad := [pair for pair in given if "=" not in pair]:
            raise ArgumentError(f"{self.flag} {bad[0]} has no value.", f"Write {self.flag} NAME=VALUE, or name a JSON file.")
        pairs = [pair.partition("=")[::2] for pair in given]
        plain = Option(self.name, "Any")
        return {name: (value.split(",") if self.words & {"list", "Sequence"} else plain._one(value)) for name, value in pairs}


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


# ---------------------------------------------------------------------- where options come from
def of_call(called: Callable[..., Any], own: Mapping[str, Any] | None = None) -> list[Option]:
    """Those of a function; ``own`` are defaults that win over its own."""
    said, text = own or {}, described(called.__doc__)
    if other := getattr(called, "takes_also", None):
        text = {**described(other.__doc__), **text}
    found = []
    for name, p in inspect.signature(called).parameters.items():
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            default = said.get(name, p.default)
            found.append(Option(name, _text(p.annotation), default, text.get(name, "")))
    return [option for option in found if option.can_be_typed]


def of_fields(cls: type[Model]) -> list[Option]:
    """A model's hyper-parameters."""
    text = {name: help for base in reversed(cls.__mro__) for name, help in described(base.__doc__).items()}
    kinds = cls.hyperparameters().items()
    return [Option(name, _text(kind), getattr(cls, name, inspect.Parameter.empty), text.get(name, "")) for name, kind in kinds]


def of_plan(plan: PlanOptions) -> list[Option]:
    """What moves the weights, with a model's own defaults."""
    text = described(PlanOptions.__doc__)
    return [Option(f.name, _text(f.type), getattr(plan, f.name), text.get(f.name, "")) for f in dataclasses.fields(plan)]


def of_data(cells_type: type[Batch]) -> list[Option]:
    """What ``setup_anndata`` and ``setup_mudata`` take."""
    out: dict[str, Option] = {}
    for field in cells_type.fields().values():
        for name, help in _keys_of(field):
            out.setdefault(name, Option(name, "Sequence[str]" if name.endswith("_keys") else "str", help=help))
    out["modalities"] = Option("modalities", "dict[str, str]", help="of a MuData: which option is about which modality, rna_layer=rna")
    return [*out.values(), Option("allow_non_counts", "bool", False, "accept values that are negative or not whole")]


def _keys_of(field: Field) -> Iterable[tuple[str, str]]:
    yield field.argument, KINDS[field.kind] + (" (needed)" if field.required else "")
    if field.mudata:
        yield field.mudata, f"of a MuData: layer with what --{Option(field.argument, '').flag[2:]} names in an AnnData"
    if field.missing:
        yield field.missing, "value of cells whose category is not known"
    if field.names:
        yield field.names, "entry of uns with the names of these features"


def _text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def described(doc: str | None) -> dict[str, str]:
    """Argument -> what the section "Parameters" of a NumPy docstring says of it, on one line.

    >>> described(of_call.__doc__), described(settle.__doc__)["parser"]
    ({}, 'That has read the words.')
    """
    out: dict[str, list[str]] = {}
    section, names, lines = "", [""], inspect.cleandoc(doc or "").split("\n")
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("---") and line:
            section = line
        elif section == "Parameters" and line and not line.startswith(("---", " ")):
            names = re.split(r",\s*", line.partition(" : ")[0].replace("*", ""))
        elif section == "Parameters" and line.strip() and not line.startswith("---"):
            for name in names:
                out.setdefault(name, []).append(line.strip())
    return {name: re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``(.+?)``", r"\1\2", " ".join(said)) for name, said in out.items()}


# ---------------------------------------------------------------------- reading the words
class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are this package's."""

    def __init__(self, prog: str, about: str | None, takes: str):
        said = inspect.cleandoc(about or "").split("\n\n")[0]
        described_as = re.sub(r"``(.+?)``|:\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1\2", said)
        super().__init__(prog=prog, usage=f"{prog} {takes}", description=described_as, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{self.prog}: {message}.", f"Call {self.prog} --help.")

    def group(self, title: str, options: Iterable[Option]) -> list[Option]:
        """Add options under a title; one whose flag is there already is not added again."""
        group, options = self.add_argument_group(title), list(options)
        for option in options:
            if option.flag not in self._option_string_actions:
                option.add_to(group)
        return options


def settle(parser: Parser, words: list[str], *groups: list[Option]) -> tuple[argparse.Namespace, list[dict[str, Any]]]:
    """Read the words: the parser's own arguments, and for each group of options those given, as Python takes them.

    Parameters
    ----------
    parser
        That has read the words.
    words
        Of the command line.
    *groups
        Of options, as :meth:`Parser.group` added them; one that stands in several goes to all of them.

    Raises
    ------
    ArgumentError
        An option that does not exist (the nearest is named), or a value that is none.
    """
    own, more = parser.parse_known_args(words)
    if more:
        option = next((word for word in more if word.startswith("-")), None)
        if option is None:
            parser.error(f"what is {more[0]!r}")
        flags = [flag for flag in parser._option_string_actions if flag.startswith("--") and not flag.startswith("--no-")]
        raise ArgumentError(unknown("option", option.partition("=")[0], flags), f"Call {parser.prog} --help.")
    given = vars(own)
    return own, [{option.name: option.value(given[option.name]) for option in group if option.name in given} for group in groups]
