"""Files of scvi-tools run no code, however they are made: damaged, cut off, or meant to."""

import pickle
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

import scelbo
from scelbo import SCVI, errors
from scelbo.scvi_tools import pickles

KEPT = Path(__file__).parent / "scvi_tools"


class Hostile:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


class Poisoned:
    """What torch would open without a word: a call inside a tensor's hooks."""

    def __reduce__(self):
        return getattr, (Hostile(), "__reduce__")


def _zip(path, program, parts=()):
    """A file with another pickle, beside the same tensors."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", program)
        for name, data in dict(parts).items():
            file.writestr(name, data)


def test_what_pyro_keeps_of_other_models_is_only_noted(tmp_path):
    store = {"params": {"other": torch.zeros(2)}, "constraints": {"other": torch.distributions.constraints.positive}}
    torch.save({"pyro_param_store": store, "n": 3}, tmp_path / "model.pt")
    read = pickles.read(tmp_path / "model.pt")
    assert read["n"] == 3 and type(read["pyro_param_store"]["constraints"]["other"]) is not type(store["constraints"]["other"])


@pytest.mark.parametrize("hostile", [Hostile(), {"model_state_dict": Hostile()}, [Poisoned()], {"history_": [Hostile()]}])
@pytest.mark.parametrize("bare", [True, False])
def test_a_hostile_file_runs_nothing(tmp_path, hostile, bare):
    file = tmp_path / "model.pt"
    if bare:
        file.write_bytes(pickle.dumps(hostile))
    else:
        _zip(file, pickle.dumps(hostile, protocol=2))
    with pytest.raises(errors.StorageError, match="cannot be read" if bare else "would have Python call"):
        scelbo.load(tmp_path)


@pytest.mark.parametrize("protocol", range(6))
def test_no_protocol_gets_around_it(tmp_path, protocol):
    _zip(tmp_path / "model.pt", pickle.dumps({"a": Hostile()}, protocol=protocol))
    with pytest.raises(errors.StorageError, match="Nothing was run"):
        scelbo.load(tmp_path)


def test_files_that_ask_for_more_memory_than_they_have_are_refused(tmp_path):
    program = pickle.PROTO + b"\x02N" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff" + pickle.STOP  # a memo of four thousand million entries
    _zip(tmp_path / "model.pt", program)
    with pytest.raises(errors.StorageError):
        scelbo.load(tmp_path)
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", b"0" * 10_000_000)
    with pytest.raises(errors.StorageError, match="compressed"):
        scelbo.load(tmp_path)


@given(some.data())
@settings(max_examples=150, deadline=None, database=None, derandomize=True)
def test_damaged_files_are_an_error_or_the_same_kind_of_model(data):
    with zipfile.ZipFile(KEPT / "scvi" / "model.pt") as file:
        parts = {name: file.read(name) for name in file.namelist()}
        damaged = bytearray(parts.pop("model/data.pkl"))
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(some.integers(0, 8))] = data.draw(some.binary(max_size=8))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt"
        _zip(file, bytes(damaged), parts)
        try:
            model = scelbo.load(file)
        except errors.StorageError:
            return
        assert isinstance(model, SCVI)  # what was changed said nothing: a name, a date


def test_truncated_files_are_an_error(tmp_path):
    whole = (KEPT / "scvi" / "model.pt").read_bytes()
    for share in (0, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "model.pt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(errors.StorageError):
            scelbo.load(tmp_path)
