"""What does a differential test cost, in CPU seconds and memory, in scelbo and in scvi-tools?

One comparison of two types (5,000 draws a side) by a model that was just made: what is decoded costs the same trained or not. In
processes of their own, one thread each. Ends with an error if accessibility is not twice as fast with half of the memory. Run with
``make bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from statistics import median
from typing import Any

from children import SIZES, child, load, peak_gb, read, simulate, timed

QUESTIONS = {"SCVI": ("differential_expression", "genes"), "PEAKVI": ("differential_accessibility", "33k")}
REQUIRED, MEMORY = 2.0, 0.5
MODE = {"mode": "change", "all_stats": True}


def asked(side: str, name: str, folder: str) -> None:
    question, size = QUESTIONS[name]
    adata, library = read(size, folder), __import__("scelbo" if side == "scelbo" else "scvi")
    model = getattr(library if side == "scelbo" else library.model, name)
    model.setup_anndata(adata, batch_key="batch")
    fitted = model(adata)
    fitted.is_trained = fitted.is_trained_ = True
    more: dict[str, Any] = {} if side == "scelbo" else {"silent": True}
    seconds = timed(lambda: getattr(fitted, question)(groupby="cell_type", group1="type0", group2="type1", **MODE, **more))
    print(json.dumps({"seconds": seconds, "peak": peak_gb()}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        simulate(*given.child[1:]) if given.child[0] == "simulate" else asked(*given.child)
        return 0

    print(f"One comparison, change mode, one thread, medians of {given.rounds} processes\n")
    print("| question | cells | scelbo, CPU s | scvi-tools | ratio | scelbo, peak GB | scvi-tools |\n|---|---|---|---|---|---|---|")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (question, size) in QUESTIONS.items():
            child(__file__, "simulate", size, folder)
            runs = [[child(__file__, side, name, folder) for side in ("scelbo", "scvi-tools")] for _ in range(given.rounds)]
            ours, theirs = ({key: median(run[i][key] for run in runs) for key in ("seconds", "peak")} for i in (0, 1))
            ratio, memory, (cells, features, stored) = theirs["seconds"] / ours["seconds"], ours["peak"] / theirs["peak"], SIZES[size]
            print(
                f"| {name}: {question} | {cells:,} x {features:,}, {stored:.1%} stored | {ours['seconds']:.1f} | {theirs['seconds']:.1f} "
                f"| **{ratio:.1f}x** | {ours['peak']:.2f} | {theirs['peak']:.2f} |",
                flush=True,
            )
            if name == "PEAKVI" and (ratio < REQUIRED or memory > MEMORY):
                failed.append(f"{question}: {ratio:.1f}x with {memory:.0%} of the memory; {REQUIRED}x and {MEMORY:.0%} are required")
    print(f"\n({load()})")
    print(*failed, "FAILED" if failed else "passed", sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
