"""Errors by meaning: what came, what is allowed, the nearest match, and the next call."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


class ScelboError(Exception):
    """Base of every error that scelbo raises on purpose.

    Attributes
    ----------
    kind
        One word, the same in R (class ``scelbo_<kind>_error``).
    hint
        What to call or change next.
    problems
        Each problem in words, where several were found at once.
    """

    kind = "scelbo"

    def __init__(self, message: str, hint: str = "", problems: Sequence[str] = ()):
        super().__init__(message)
        self.hint, self.problems = hint, tuple(problems)

    def __str__(self) -> str:
        lines = [super().__str__(), *(f"  - {p}" for p in self.problems)]
        return "\n".join([*lines, self.hint] if self.hint else lines)


class SetupError(ScelboError, ValueError):
    """The data were not set up for this model, or not as asked."""

    kind = "setup"


class DataError(ScelboError, ValueError):
    """The data hold something that a model cannot explain."""

    kind = "data"


class ArgumentError(ScelboError, ValueError):
    """An argument's name or value is not one of those allowed."""

    kind = "argument"


class NotTrainedError(ScelboError, RuntimeError):
    """The question needs a trained model."""

    kind = "training"


class NonFiniteLossError(ScelboError, ArithmeticError):
    """The loss became NaN or infinite; the model was put back to its last good state."""

    kind = "training"


class LostProcessError(ScelboError, RuntimeError):
    """One of the processes that train a model together does not answer any more."""

    kind = "training"


class StorageError(ScelboError, OSError):
    """A model folder cannot be read or written."""

    kind = "storage"


class BackendError(ScelboError, ImportError):
    """A package that this needs, and most of scelbo does not, is not installed."""

    kind = "backend"


class DataWarning(UserWarning):
    """The data can be used, but look at this first."""


def nearest(word: object, options: Iterable[object]) -> str:
    """``Did you mean 'x'?``, or nothing where no option is close; upper and lower case are alike."""
    folded = {str(o).casefold(): str(o) for o in options}
    close = difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[close[0]]!r}?" if close else ""


def unknown(what: str, word: object, options: Iterable[object]) -> str:
    """A sentence that names the unknown word, the nearest match, and what is allowed (shortened)."""
    known = [str(o) for o in options]
    shown = ", ".join(known[:12]) + (f", ... ({len(known)} in all)" if len(known) > 12 else "")
    return " ".join(part for part in (f"{what} {word!r} is unknown.", nearest(word, known), f"Known: {shown}.") if part)


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless ``value`` is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        raise ArgumentError(
            f"{name}={value!r} is not allowed: it must be one of {', '.join(repr(a) for a in allowed)}.", nearest(value, allowed)
        )


def refuse(when: bool, message: str, hint: str = "") -> None:
    """Raise if an argument, or several together, cannot be."""
    if when:
        raise ArgumentError(message, hint)


def of_kind(name: str, value: Any, kind: Any) -> None:
    """Raise unless a hyper-parameter has the type that its field states; sizes are above zero, rates are shares."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:  # "int | None": the model finds a size by itself
        if value is not None:
            _of_one_kind(name, value, [k for k in get_args(kind) if k is not NoneType])
    elif get_origin(kind) in (list, tuple):
        if not isinstance(value, list | tuple) or not value:
            raise ArgumentError(f"{name}={value!r} is not allowed: it must be a list.")
        for each in value:
            of_kind(name, each, get_args(kind)[0])
    elif get_origin(kind) is Literal:
        one_of(name, value, get_args(kind))
    elif kind is bool and not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} is not allowed: it must be True or False.")
    elif name == "seed":
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
            raise ArgumentError(f"seed={value!r} is not allowed: it must be a whole number, 0 or above.")
    elif kind is int and (isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1):
        raise ArgumentError(f"{name}={value!r} is not allowed: it must be a whole number above zero.")
    elif kind is float and not isinstance(value, numbers.Real):
        raise ArgumentError(f"{name}={value!r} is not allowed: it must be a number.")
    elif kind is float and name.endswith("_rate") and not 0 <= value < 1:
        raise ArgumentError(f"{name}={value!r} is not allowed: it must be from 0 up to (not including) 1.")
    elif kind is float and name == "library_size" and not value > 0:
        raise ArgumentError(f"{name}={value!r} is not allowed: it must be above zero.")


def _of_one_kind(name: str, value: Any, kinds: Sequence[Any]) -> None:
    """Of several kinds a list is held against the one for lists, a text against that for words, anything else against the first."""
    wanted = list if isinstance(value, list | tuple) else Literal if isinstance(value, str) else None
    of_kind(name, value, next((k for k in kinds if wanted and get_origin(k) is wanted), kinds[0]))
