"""Does scelbo compute what scvi-tools computes? The same weights in both, in float64, over combinations of every option of every model.

Prints the largest relative difference of each quantity and ends with an error if any is above 1e-5, if the comparison does not notice
when one weight is changed, or if what either estimates with draws of its own differs by more than their Monte-Carlo error. Run with
``make parity``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import scvi
from output import quiet
from peer import (
    amortized_lda,
    autozi,
    cellassign,
    compare,
    condscvi,
    differential,
    folders,
    gimvi,
    linear_scvi,
    multivi,
    peakvi,
    posterior,
    scanvi,
    solo,
    stereoscope,
    totalvi,
    transfer,
)  # fmt: skip
from peer import scvi as scvi_twins
from peer.compare import TOLERANCE, Topic

MODELS = (
    scvi_twins.TWINS, peakvi.TWINS, scanvi.TWINS, amortized_lda.TWINS, cellassign.TWINS, linear_scvi.TWINS, autozi.TWINS, totalvi.TWINS,
    multivi.TWINS, gimvi.TWINS, stereoscope.CELLS, stereoscope.SPOTS, condscvi.TWINS,
)  # fmt: skip
TABLES = ((scvi_twins.TWINS, differential.Expression), (peakvi.TWINS, differential.Accessibility))


def topics() -> Iterator[Topic]:
    """One at a time, as each takes a while."""
    for twins in MODELS:
        yield compare.same_weights(twins)
    for twins, kind in TABLES:
        yield differential.topic(twins, kind)
    for twins in MODELS:
        if twins.queries:
            yield transfer.topic(twins)
    yield posterior.topic()
    yield solo.topic()
    yield folders.topic()
    for twins in MODELS:
        yield compare.one_weight_changed(twins)


def main() -> int:
    quiet()
    print(f"scelbo beside scvi-tools {scvi.__version__}")
    failed = []
    for topic in topics():
        print(f"\n{topic.text}", flush=True)
        failed += topic.failed
    print(*failed[:20], sep="\n")
    print("FAILED" if failed else f"passed (tolerance {TOLERANCE:.0e})")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
