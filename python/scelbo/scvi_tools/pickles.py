"""scvi-tools' ``model.pt``, read without making anything that it names.

The file is a zip with one pickle and the bytes of its tensors. A pickle is a program that may call whatever it names; here each name
becomes a :class:`Named`, which notes what it would have been made of. So nothing but such notes, plain values and bytes exists while it is
read, and what they mean is settled afterwards: tensors, arrays, tables.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scelbo.errors import StorageError

STORAGES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1",
}  # fmt: skip
"""Kind of tensor -> its numbers in the file."""
PLAIN = {"builtins": {"dict", "list", "set", "tuple", "slice", "bytes"}, "collections": {"OrderedDict", "defaultdict"}}
ARRAYS = {"numpy": {"ndarray", "dtype"}, "numpy.core.multiarray": {"_reconstruct", "scalar"}, "_codecs": {"encode"}}
TENSORS = {"torch": {f"{kind}Storage" for kind in STORAGES}, "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"}}
FUNCTIONS = {"torch._C._nn": {"softplus"}}  # what a setting may be
KNOWN: dict[str, set[str]] = {**PLAIN, **ARRAYS, **TENSORS, **FUNCTIONS}
"""Module -> names that a file may hold; and any of these, of which no more than a note is made:"""
NOTED = ("pandas.", "torch.distributions.constraints.")
"""Tables of the training history, read as far as they are understood, and what Pyro keeps of other models of that session."""
RENAMED = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}


class Named(dict[Any, Any]):
    """Something that a pickle names: not made, but noted with its arguments, its state and (of a dict) its entries."""

    name = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Named:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args: Any):
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return self.name


class Stored(NamedTuple):
    """The numbers of a tensor: their kind, the entry of the zip, and how many."""

    kind: str
    key: str
    n: int


class _Notes(pickle._Unpickler):  # the one in C allocates memory as a file tells it to
    """Notes what a pickle says."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.classes: dict[str, type[Named]] = {}

    def find_class(self, module: str, name: str) -> type[Named]:
        module = RENAMED.get(module, module)
        if name not in KNOWN.get(module, ()) and not f"{module}.".startswith(NOTED):
            raise StorageError(
                f"It would have Python call {module}.{name}, which no model needs. Nothing was run.",
                "Do not open it with other software before you know where it comes from.",
            )
        full = f"{module}.{name}"
        return self.classes.setdefault(full, type("Named", (Named,), {"name": full}))

    def persistent_load(self, pid: Any) -> Stored:
        what, kind, key, _, n = pid
        if what != "storage" or not (isinstance(kind, type) and issubclass(kind, Named)) or type(key) is not str or type(n) is not int:
            raise ValueError("a tensor without numbers")
        return Stored(kind.name.removeprefix("torch.").removesuffix("Storage"), key, n)


def read(path: Path) -> dict[str, Any]:
    """What a ``model.pt`` holds, as plain values, tensors, arrays and tables (:class:`Named`, where that is not understood).

    Raises
    ------
    StorageError
        It is no such file, is damaged, or names something that is no data: nothing of it is run.
    """
    try:
        with zipfile.ZipFile(path) as file:
            entries = {entry.filename: entry for entry in file.infolist()}
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
                raise ValueError("its parts are compressed, which torch does not do")
            prefix = next((name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")), None)
            if prefix is None:
                raise ValueError("it holds no data.pkl")
            noted = _Notes(io.BytesIO(file.read(prefix + "data.pkl"))).load()
            swapped = f"{prefix}byteorder" in entries and file.read(f"{prefix}byteorder") == b"big"
            meant = _Meaning(file, prefix, ">" if swapped else "<").of(noted)
        if not isinstance(meant, dict):
            raise ValueError("it is no model")
    except FileNotFoundError:
        raise
    except StorageError as error:
        raise StorageError(f"{str(path)!r} is not opened. {error.args[0]}", error.hint) from None
    except Exception as error:  # whatever a damaged file leads to
        raise StorageError(f"{str(path)!r} cannot be read: {error}.", "The file is damaged, or was not written by scvi-tools.") from None
    return meant


class _Meaning:
    """From notes to values; what is noted once is made once, however often it is named."""

    def __init__(self, file: zipfile.ZipFile, prefix: str, order: str):
        self.file, self.prefix, self.order = file, prefix, order
        self.known: dict[int, Any] = {}
        self.keep: list[Any] = []  # else another note could get the number of one that is gone

    def of(self, noted: Any) -> Any:
        if not isinstance(noted, dict | list | tuple) or isinstance(noted, Stored):
            return noted
        if id(noted) not in self.known:
            self.keep.append(noted)
            self.known[id(noted)] = None  # one that holds itself holds nothing there
            self.known[id(noted)] = self._of(noted)
        return self.known[id(noted)]

    def _of(self, noted: Any) -> Any:
        if not isinstance(noted, Named):
            if isinstance(noted, dict):
                return {key: self.of(value) for key, value in noted.items() if isinstance(key, str | int | float | bool)}
            return type(noted)(map(self.of, noted))
        args = noted.args
        match noted.name:
            case "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict":
                return {key: self.of(value) for key, value in noted.items() if isinstance(key, str | int | float | bool)}
            case "builtins.list" | "builtins.set" | "builtins.tuple":
                return list(map(self.of, args[0])) if args else []
            case "_codecs.encode":
                return args[0].encode("latin1")
            case "builtins.bytes":
                return b""
            case "torch._utils._rebuild_tensor_v2":
                return self.tensor(*args[:4])
            case "torch._utils._rebuild_parameter":
                return self.of(args[0])
            case "numpy.core.multiarray._reconstruct":
                return self.array(*noted.state[1:])
            case "numpy.core.multiarray.scalar":
                return self.array((), args[0], False, args[1]).item()
            case "pandas.core.indexes.base._new_Index":
                return self.index(args[1])
            case "pandas.core.frame.DataFrame":
                return self.frame(noted)
        return noted

    def tensor(self, stored: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Tensor:
        """A tensor, whose numbers must all be in the file."""
        if not isinstance(stored, Stored) or stored.kind not in STORAGES:
            raise ValueError("a tensor of a kind that no model has")
        data = np.frombuffer(self.file.read(f"{self.prefix}data/{stored.key}"), f"{self.order}{STORAGES[stored.kind]}")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)) or math.prod(shape) > len(data):
            raise ValueError("a tensor has more numbers than the file")
        if math.prod(shape) == 0:
            return torch.from_numpy(np.zeros(tuple(shape), STORAGES[stored.kind]))
        if last >= len(data):
            raise ValueError("a tensor has more numbers than the file")
        steps = [step * data.itemsize for step in strides]
        there = np.lib.stride_tricks.as_strided(data[offset:], tuple(shape), steps, writeable=False)
        return torch.from_numpy(there.astype(STORAGES[stored.kind]))  # a copy

    def array(self, shape: Any, dtype: Any, by_column: Any, raw: Any) -> np.ndarray:
        """An array of numbers, of words, or of objects that are these."""
        code, order = dtype.args[0], dtype.state[1] if dtype.state else "|"
        if not isinstance(code, str) or code.lstrip("<>|=")[:1] not in tuple("biufOSU"):
            raise ValueError(f"an array of {code}")
        raw = self.of(raw)
        if code.lstrip("|").startswith("O"):
            out = np.empty(len(raw), object)
            out[:] = raw
        else:
            out = np.frombuffer(raw, np.dtype(code).newbyteorder(">" if order == ">" else "<")).copy()
        return out.reshape(shape, order="F" if by_column else "C")

    def index(self, about: Any) -> np.ndarray:
        """The values of an index."""
        if "data" in about:
            return np.asarray(self.of(about["data"]))
        steps = range(about["start"], about["stop"], about["step"])
        if len(steps) > 10_000_000:
            raise ValueError("an index without end")
        return np.asarray(steps)

    def frame(self, noted: Named) -> Any:
        """A table whose columns are of one kind, as histories are; else the note."""
        try:
            blocks, (columns, index) = noted.state["_mgr"].args[:2]
            (block,) = blocks
            values, names, rows = self.of(block.args[0]), self.of(columns), self.of(index)
            return pd.DataFrame(values.T, index=rows, columns=names)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            return noted


def refuse(path: Path) -> NoReturn:
    """Of folders that scvi-tools wrote before version 0.15."""
    raise StorageError(
        f"{str(path)!r} is of scvi-tools before 0.15, which kept pickles of whole objects.",
        "Bring it to the present form with scvi-tools first: convert_legacy_save(folder, new_folder).",
    )
