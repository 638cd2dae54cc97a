"""How many cells a second train, and how many questions answer, on one GPU, in scelbo and in scvi-tools?

Both do the same on the same simulated cells through their public functions, in processes of their own, by the clock: what a GPU spares
the processor is the point. Medians over the epochs after one that warms up (Triton compiles then). Writes ``results/gpu.json``. Run where
there is a GPU, in an environment that has both packages::

    python benchmarks/gpu.py --rows "scVI, NB" PeakVI
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import jobs
from children import SIZES, Size, child, read, simulate
from jobs import JOBS, PACKAGES

ROWS = ("scVI, NB", "scVI, ZINB", "scANVI, ZINB", "PeakVI, 33,000 regions", "totalVI, 14 proteins", "MultiVI, 3,000 genes, 30,000 regions")
ASKED = (jobs.LATENT, jobs.NORMALISED)
HEAD = """| model | question | scelbo | scvi-tools | ratio | scelbo, GB of the GPU | scvi-tools |
|---|---|---|---|---|---|---|"""


def clock(call: Any) -> float:
    """Seconds until the GPU has done it."""
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(side: str, name: str, folder: str, epochs: int, share: float) -> dict[str, Any]:
    """Cells a second of training and of each question, and the GPU's memory."""
    import torch

    job, package = JOBS[name], __import__(PACKAGES[side])
    model = jobs.model_of(job, read(SIZES[job.size], folder), package)
    given = jobs.settings_of(job, model, side, epochs + 1, share) | {"accelerator": "gpu"}
    ends = [wall for _, wall in jobs.train(model, side, given)]
    trained = round(share * SIZES[job.size].cells)
    per_epoch = [b - a for a, b in pairwise(ends)]
    out: dict[str, Any] = {
        "train": trained / median(per_epoch),
        "gb": torch.cuda.max_memory_allocated() / 2**30,
        "loss": jobs.loss_of(model),
    }
    for what in [asked for asked in ASKED if asked != jobs.NORMALISED or job.model != "MULTIVI"]:
        ask = jobs.question(job, model, side, what, folder)
        out[what] = SIZES[job.size].cells / median(clock(ask) for _ in range(3))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=[], help="jobs whose name holds one of these")
    parser.add_argument("--epochs", type=int, default=3, help="epochs timed, after one that warms up")
    parser.add_argument("--share", type=float, default=0.9, help="of the cells that train")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "gpu.json"))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        side, name, folder = given.child
        print(json.dumps(measure(side, name, folder, given.epochs, given.share)))
        return 0
    import torch

    if not torch.cuda.is_available():
        print("There is no GPU that PyTorch sees.", file=sys.stderr)
        return 1
    about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "share": given.share, "minibatch": 128}
    print(f"{about['gpu']}, torch {about['torch']}; cells a second\n\n{HEAD}", flush=True)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [row for row in ROWS if not given.rows or any(part in row for part in given.rows)]:
            size: Size = SIZES[JOBS[name].size]
            simulate(size, folder)
            sides = {side: child(__file__, side, name, folder, "--epochs", given.epochs, "--share", given.share) for side in PACKAGES}
            rows[name] = {"data": size._asdict(), **sides}
            ours, theirs = sides.values()
            for what in [key for key in ours if key in ("train", *ASKED)]:
                print(f"| {name} | {what} | {ours[what]:,.0f} | {theirs[what]:,.0f} | **{ours[what] / theirs[what]:.1f}x** | {ours['gb']:.2f} | {theirs['gb']:.2f} |", flush=True)  # fmt: skip  # noqa: E501
            Path(given.out).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
