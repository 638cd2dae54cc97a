"""Arguments of what users call: named right, of the right kind, and shared by several questions."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import torch

from scelbo.errors import ArgumentError, of_kind, unknown

F = TypeVar("F", bound=Callable[..., Any])
KINDS: dict[str, Any] = {
    "int": int,
    "int | None": int | None,
    "float": float,
    "float | None": float | None,
    "bool": bool,
    "bool | None": bool | None,
    "float | Literal['latent']": float | Literal["latent"],
}
"""Annotations that are checked before any work is done."""


def named(function: F) -> F:
    """A misspelt argument is answered with the nearest, and one of another kind than its annotation is refused, before any work.

    >>> @named
    ... def short(x, *, size: int = 3):
    ...     return size
    >>> short(1, size=2)
    2
    >>> short(1, sise=2)
    Traceback (most recent call last):
    scelbo.errors.ArgumentError: short() argument 'sise' is unknown. Did you mean 'size'? Known: x, size.
    """
    signature = inspect.signature(function)
    kinds = {p.name: KINDS[p.annotation] for p in signature.parameters.values() if p.annotation in KINDS}
    any_name = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in signature.parameters and not any_name:
                raise ArgumentError(unknown(f"{function.__name__}() argument", name, [n for n in signature.parameters if n != "self"]))
        for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
            if name in kinds and value is not signature.parameters[name].default:
                of_kind(name, value, kinds[name])
        random_state = random.getstate()
        try:
            return function(*args, **kwargs)
        finally:
            random.setstate(random_state)  # rich, which Lightning and scikit-learn import when they are needed, draws from these numbers

    return call  # type: ignore[return-value]


def question(function: F) -> F:
    """What users ask of a model: :func:`named`, and without gradients."""
    return named(torch.inference_mode()(function))


def takes_also(other: Callable[..., Any], without: Sequence[str] = ()) -> Callable[[F], F]:
    """Makes ``**more`` stand for the keyword arguments of ``other`` that are not listed, with their defaults; a typo is an error.

    >>> def long(x, *, size=3, colour="red"): ...
    >>> @takes_also(long, without=["colour"])
    ... def short(x, **more):
    ...     return x, more
    >>> short(1), inspect.signature(short)
    ((1, {'size': 3}), <Signature (x, *, size=3)>)
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function)
        listed = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in listed} | set(without)
        more = [p for p in inspect.signature(other).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in taken]
        whole = own.replace(parameters=[*listed, *more])

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{p.name: p.default for p in more} | kwargs)

        call.__signature__, call.takes_also = whole, other  # type: ignore[attr-defined]
        return named(call)  # type: ignore[return-value]

    return decorate
