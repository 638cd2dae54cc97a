"""What does not change while a model trains."""

from __future__ import annotations

from typing import Self

from torch import nn


class Settled(nn.Module):
    """Steps ask it something of what never learns: noted when a training begins, so that none of them waits for a GPU to tell."""

    noted: bool | None = None

    def look(self) -> bool:
        """Find out."""
        raise TypeError(f"{type(self).__name__} must say what it looks at")

    def told(self) -> bool:
        """What was found."""
        return self.noted if self.training and self.noted is not None else self.look()

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.noted = self.look()
        return super().train(mode)
