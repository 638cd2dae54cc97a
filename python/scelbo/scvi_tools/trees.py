"""scvi-tools' weights by name, as if they were the module that they are of: to be read, or (:class:`Blank`) to be written.

``tree.z_encoder.encoder.fc_layers[0][1].running_mean`` is the tensor ``"z_encoder.encoder.fc_layers.Layer 0.1.running_mean"``, in a module
of scvi-tools and in either tree; so one map of names (:mod:`~scelbo.scvi_tools.maps`) serves comparing, reading and writing.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from scelbo.errors import StorageError


class Tree:
    """The weights of a file; it notes which were asked for.

    >>> tree = Tree({"decoder.fc_layers.Layer 0.0.bias": torch.zeros(3)})
    >>> tree.decoder.fc_layers[0][0].bias.shape
    torch.Size([3])
    >>> "px_r" in tree, tree.left()
    (False, [])
    """

    def __init__(self, weights: dict[str, Tensor], path: str = "", asked: set[str] | None = None):
        self._weights, self._path = weights, path
        self._asked: set[str] = set() if asked is None else asked

    def __getattr__(self, name: str) -> Any:
        full = f"{self._path}{name}"
        if full in self._weights:
            self._asked.add(full)
            return self._weights[full]
        if name.startswith("__") or not self._below(full + "."):
            raise StorageError(f"It holds no weights {full!r}.", "It is of a version of scvi-tools, or has settings, not known here.")
        return self._at(full + ".")

    def _below(self, path: str) -> bool:
        return any(name.startswith(path) for name in self._weights)

    def _at(self, path: str) -> Self:
        return type(self)(self._weights, path, self._asked)

    def __getitem__(self, i: int) -> Self:
        return self._at(f"{self._path}Layer {i}." if self._path.endswith("fc_layers.") else f"{self._path}{i}.")

    def __contains__(self, name: str) -> bool:
        return f"{self._path}{name}" in self._weights or self._below(f"{self._path}{name}.")

    def left(self) -> list[str]:
        """Names of the weights that were not asked for."""
        return sorted(set(self._weights) - self._asked)


class Blank(Tree):
    """Weights that come to be when they are asked for, with :func:`leaf`.

    >>> blank = Blank({})
    >>> leaf(blank.z_encoder.mean_encoder, "bias", torch.zeros(4)).fill_(1)
    tensor([1., 1., 1., 1.])
    >>> list(blank._weights)
    ['z_encoder.mean_encoder.bias']
    """

    def _below(self, path: str) -> bool:
        return True


def leaf(there: Any, name: str, like: Tensor | None = None, shape: tuple[int, ...] | None = None) -> Tensor:
    """The peer's tensor of this name; in a :class:`Blank` one of zeros with the kind of ``like`` and its shape (or ``shape``)."""
    if isinstance(there, Blank) and f"{there._path}{name}" not in there._weights:
        assert like is not None
        there._weights[f"{there._path}{name}"] = torch.zeros(like.shape if shape is None else shape, dtype=like.dtype)
    return getattr(there, name)
