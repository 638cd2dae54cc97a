"""A device that there is not: tensors say that they lie there, keep their numbers in memory, and mix with no others.

So tests see without a GPU what one would refuse (a product of what lies here and there), and what it would be waited for.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from scelbo.data.columns import Columns
from scelbo.train import fit

DEVICE = torch.device("privateuseone", 0)
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten._unique2.default, aten.masked_select.default}


class There(torch.Tensor):
    """A tensor on the device, whose numbers are ``held``."""

    @staticmethod
    def __new__(cls, held):
        like = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), **like, device=DEVICE)

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"There({self.held})"

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return run(operator, args, kwargs or {}, Counter())


class Device(TorchDispatchMode):
    """While it is on, the device exists; ``waits`` counts what it was waited for, by the lines that did."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        with self:  # what is made of other operators
            found = operator.decompose(*args, **kwargs or {})
        return run(operator, args, kwargs or {}, self.waits) if found is NotImplemented else found


def run(operator, args, kwargs, waits):
    """An operator on what is held."""
    if torch.is_inference_mode_enabled():  # whose tensors cannot be wrapped
        with torch.inference_mode(False), torch.no_grad():
            return run(operator, args, kwargs, waits)
    given, target = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)], kwargs.get("device")
    there = any(isinstance(v, There) for v in given)
    stays = (
        torch.device(target) == DEVICE if target is not None else isinstance(args[0], There) if operator is aten.copy_.default else there
    )
    if there and operator not in MOVES and any(v.dim() for v in given if not isinstance(v, There)):
        raise RuntimeError(f"{operator} was given tensors here and there: {[(v.device.type, tuple(v.shape)) for v in given]}")
    masks = operator is aten.index.Tensor and any(v is not None and v.dtype == torch.bool for v in args[1])
    if there and (operator in WAITS or masks or (operator in MOVES and not stays)):
        waits[asked_by()] += 1
    held = tree_map(lambda v: v.held if isinstance(v, There) else v, (args, kwargs | ({} if target is None else {"device": "cpu"})))
    found = operator(*held[0], **held[1])
    if stays:
        found = tree_map(lambda v: There(v) if isinstance(v, torch.Tensor) else v, found)
    return return_and_correct_aliasing(operator, args, kwargs, found) if given else found


def asked_by():
    """The line of ours that asks."""
    ours = [frame for frame in traceback.extract_stack() if frame.filename != __file__ and "site-packages" not in frame.filename]
    return f"{ours[-1].filename}:{ours[-1].lineno}"


class OfDevice(CPUAccelerator):
    """What Lightning asks of a device."""

    def setup_device(self, device):
        pass


def register():
    """Let PyTorch know of the device, for as long as the process lives: others then find it too."""
    _setup_privateuseone_for_python_backend("pretended")


@contextmanager
def pretended(monkeypatch) -> Iterator[Device]:
    """Inside, ``accelerator="cuda"`` trains there, on data that lie there."""
    trainer, tensor = pl.Trainer, torch.tensor
    strategy = lambda: SingleDeviceStrategy(device=DEVICE, accelerator=OfDevice())  # noqa: E731
    with monkeypatch.context() as patch, Device() as device:
        moved = lambda *given, device=None, **more: tensor(*given, **more).to(device or "cpu")  # noqa: E731
        patch.setattr(torch, "tensor", moved)  # which no operator makes
        patch.setattr(fit.pl, "Trainer", lambda **given: trainer(**given | {"accelerator": "auto", "strategy": strategy()}))
        patch.setattr(Columns, "near", lambda data, device: data if data.at_once else data.on(device))  # there is room
        yield device
