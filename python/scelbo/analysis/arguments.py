"""Questions that share their arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from scelbo.errors import ArgumentError, unknown

F = TypeVar("F", bound=Callable[..., Any])


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
            for name in kwargs:
                if name not in whole.parameters:
                    raise ArgumentError(unknown(f"{function.__name__}() argument", name, whole.parameters))
            return function(*args, **{p.name: p.default for p in more} | kwargs)

        call.__signature__, call.takes_also = whole, other  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate
