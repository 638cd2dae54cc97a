"""Damages saved models at random: each must be an error that says so, or open as the model that it was.

``make fuzz`` does it 10,000 times, ``make test`` a few hundred. Kinds of damage: bytes of either file (checksums notice); ``model.json``
forged with checksums that fit, or without any; and the header or the numbers of the weights, likewise. Of a forged file that still makes
sense another model may come, but no other error, no endless loop and no full memory.
"""

import contextlib
import hashlib
import json
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from save_models import SAVED

import scelbo
from scelbo import storage

MODELS = sorted(path.parent for path in SAVED.glob("0.1.0/*/model.json"))
SECONDS, GIGABYTES = 20, 4
"""What opening one may take."""
ODD = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    10**12,
    10**400,
    0.5,
    -1e308,
    1e-320,
    "",
    "gene",
    "no\u0000word",
    [],
    {},
    [[]],
    {"a": 1},
    "9" * 50,
    [None],
]


def damaged(data, rng):
    """Some bytes changed, left out, put in or cut off."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 9))
        match rng.integers(0, 4):
            case 0:
                data[at : at + n] = rng.bytes(n)
            case 1:
                del data[at : at + n]
            case 2:
                data[at:at] = rng.bytes(n)
            case 3:
                data = data[: max(1, at)]
    return bytes(data)


def forged(said, rng):
    """One value, anywhere, replaced by an odd one, left out, or doubled."""
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(said)
    for _ in range(rng.integers(1, 3)):
        node, key = places[rng.integers(0, len(places))]
        with contextlib.suppress(KeyError, IndexError):
            match rng.integers(0, 4):
                case 0:
                    del node[key]
                case 1 if isinstance(node[key], list):
                    node[key] = node[key] * 2
                case _:
                    node[key] = ODD[rng.integers(0, len(ODD))]
    return said


def weights_forged(data, rng):
    """The header of the weights with an odd value, or their numbers with some that are none."""
    n = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + n]), bytearray(data[8 + n :])
    if rng.random() < 0.5:
        for at in rng.integers(0, max(1, len(numbers) // 4), 3):
            numbers[4 * at : 4 * at + 4] = np.float32(rng.choice([np.nan, np.inf, 1e38])).tobytes()
    else:
        header = forged(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(numbers)


def damage(folder, rng):
    """One of the kinds; whether the model may be another one afterwards."""
    about, weights = folder / storage.ABOUT, folder / storage.WEIGHTS
    kind = rng.choice(["bytes of model.json", "bytes of the weights", "model.json forged", "weights forged"])
    match kind:
        case "bytes of model.json":
            about.write_bytes(damaged(about.read_bytes(), rng))
        case "bytes of the weights":
            weights.write_bytes(damaged(weights.read_bytes(), rng))
        case _:
            said = json.loads(about.read_text())
            if kind == "model.json forged":
                said = forged(said, rng)
            else:
                weights.write_bytes(weights_forged(weights.read_bytes(), rng))
            said.pop("checksums", None)
            if rng.random() < 0.5:
                sums = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest(), "about": storage._checksum(said)}
                said["checksums"] = sums
            about.write_text(json.dumps(said))
    return kind


def contents(model):
    """All that a model is."""
    return json.dumps([storage._about(model), [[k, v.tolist()] for k, v in model.module.state_dict().items()]], sort_keys=True, default=str)


def too_long(*_):
    raise TimeoutError(f"opening it takes more than {SECONDS} s")


def fuzz(n, seed=0):
    """What became of ``n`` damaged folders: (kind of damage, outcome) -> how often. Anything else than an error or a model is raised."""
    rng, outcomes = np.random.default_rng(seed), Counter()
    were = {folder: contents(scelbo.load(folder)) for folder in MODELS}
    signal.signal(signal.SIGALRM, too_long)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(n):
            original = MODELS[rng.integers(0, len(MODELS))]
            folder = shutil.copytree(original, Path(place) / str(i))
            kind = damage(folder, rng)
            signal.alarm(SECONDS)
            try:
                model = scelbo.load(folder)
                outcome = "the same model" if contents(model) == were[original] else "another model"
            except scelbo.errors.StorageError:
                outcome = "an error that says so"
            except Exception as error:
                raise AssertionError(f"{original.name} number {i} of seed {seed}, {kind}: {error!r}") from error
            finally:
                signal.alarm(0)
            assert outcome != "another model" or kind.endswith("forged"), f"{original.name} number {i} of seed {seed}: {kind}"
            outcomes[kind, outcome] += 1
            shutil.rmtree(folder)
    return outcomes


def main():
    n, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 2**30,) * 2)
    for (kind, outcome), times in sorted(fuzz(n, seed).items()):
        sys.stdout.write(f"{times:6,} x {kind}: {outcome}\n")


if __name__ == "__main__":
    main()
