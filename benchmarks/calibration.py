"""How far may stated uncertainties be trusted? Of posteriors, intervals, tests and label probabilities, here and in scvi-tools.

*posteriors*: simulation-based calibration of scVI and PeakVI, with a known decoder and with a learnt one; intervals and probabilities of
fold changes between groups of such cells. *halves*: what is called where nothing differs. *spots*: Stereoscope's intervals. *labels*,
*types*, *doublets*: scANVI's, CellAssign's and SOLO's probabilities of real cells. *proteins*: totalVI's of foreground. Tables are
printed; numbers go to ``results/calibration.json``, figures beside it. Ends with an error where the exact posterior fails (then the check
is wrong), where scelbo is further from what it states than scvi-tools, where it calls what does not differ, or where an interval that
docs/calibration.md relies on does not hold. Run with ``make calibration``; ``--quick`` for a smoke run; ``--only`` for some parts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from calibrated import differences, figures, foreground, posteriors, probabilities, spots
from calibrated import known as k
from calibrated.posteriors import EXACT, KNOWN, LEARNT, OURS, PEER, QUICK, Found, Sizes
from children import load
from output import quiet
from scores import markdown

RESULTS = Path(__file__).resolve().parent / "results"
SLACK = 0.03
"""Share of true values that an interval of ours may hold less than scvi-tools' of the same level."""
STRICT = 1e-4
"""Least p-value of the exact posterior's ranks, corrected for the number of quantities."""
SIZES = {"scvi": Sizes(), "zinb": Sizes(ensemble=1), "peakvi": Sizes(encoder_epochs=25, learnt_epochs=200, asked=300)}
Part = Callable[[argparse.Namespace], Iterator[str]]


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n\n{markdown(table)}", flush=True)


def keep(given: argparse.Namespace, part: str, **tables: Any) -> None:
    """Numbers of a part among those of earlier runs."""
    path = Path(f"{given.stem}.json")
    whole = json.loads(path.read_text()) if path.exists() else {}
    plain = lambda t: json.loads(t.to_json(orient="split", double_precision=4)) if isinstance(t, pd.DataFrame) else t  # noqa: E731
    whole[part] = {name: plain(table) for name, table in tables.items()}
    path.write_text(json.dumps(dict(sorted(whole.items())), indent=1) + "\n")


# ------------------------------------------------------------------ the parts: each prints, keeps, and says what is wrong
def of_family(family: k.Family, stem: str, given: argparse.Namespace) -> Iterator[str]:
    """Posteriors, and differences between cells of the same decoder."""
    sizes = QUICK if given.quick else SIZES[stem]
    known = k.Known.trained(family, sizes.features, sizes.teacher_epochs)
    found = list(posteriors.with_known_decoder(known, sizes)) if family is not k.SCVI_ZINB else []
    users = posteriors.learnt(known, sizes, known.make(sizes.learnt_cells, 3))
    found += posteriors.as_users_train(users, sizes)
    table = pd.DataFrame([f.row for f in found], [f"{f.stage}: {f.method}, {f.quantity}" for f in found])
    show(f"{family.name}: share of true values in intervals, {sizes.asked} cells", table)
    print("\n" + "\n".join(sorted({f"{f.method}: {f.note}" for f in found if f.note})))
    figures.of_ranks(found, f"{given.stem}_{stem}")
    histograms = {name: f.histogram.tolist() for name, f in zip(table.index, found, strict=True)}
    null = differences.of_made_cells(users, 2 if given.quick else 5)
    show(f"{family.name}: random halves of its own cells, where nothing differs", null)
    keep(given, stem, intervals=table, histograms=histograms, halves=null)
    yield from wrong_posteriors(family.name, found)
    yield from wrong_calls(family.name, null, differences.OURS, differences.WEIGHTED, differences.ONE_SIDED)
    what = "regions" if family is k.PEAKS else "genes"
    rows, bins = differences.between_groups(users)
    show(f"{family.name}: {what} between two groups of its own cells", rows)
    figures.of_reliability({f"P(change) of {what}, two groups": bins}, f"{given.stem}_{stem}_changes")
    keep(given, f"{stem}_changes", changes=rows, reliability={name: b.to_dict("list") for name, b in bins.items()})
    yield from wrong_changes(family.name, rows.loc[differences.OURS])


def wrong_posteriors(model: str, found: Sequence[Found]) -> Iterator[str]:
    by = {(f.stage, f.method, f.quantity): f.row for f in found}
    for (stage, method, quantity), row in by.items():
        if method == EXACT and row["least p"] < STRICT:
            yield f"{model}: ranks of the exact posterior are not uniform ({quantity}, p = {row['least p']:.1g}): the check is wrong"
        pairs = {(KNOWN, OURS): PEER, (LEARNT, "scelbo"): "scvi-tools"}
        if (stage, method) in pairs and not (stage == LEARNT and model == k.PEAKS.name):  # neither minimises the ELBO by default
            theirs = by[stage, pairs[stage, method], quantity]
            if row["90%"] < min(0.9, theirs["90%"]) - SLACK:
                yield f"{model}, {stage}: 90 % intervals of {quantity} hold {row['90%']:.2f}, scvi-tools' {theirs['90%']:.2f}"


def wrong_calls(name: str, null: pd.DataFrame, *methods: str) -> Iterator[str]:
    """What is called where nothing differs."""
    for method in null.index.intersection(methods):
        for fdr in differences.FDRS:
            if null.loc[method, f"called at {fdr}"] > 0:
                yield f"{name}, {method}: {null.loc[method, f'called at {fdr}']:.1f} calls at {fdr} where nothing differs"


def wrong_changes(name: str, row: pd.Series) -> Iterator[str]:
    """What docs/calibration.md says of fold changes."""
    if abs(row.get("pairs in 90%", 0.9) - 0.9) > 2 * SLACK:
        yield f"{name}: 90 % intervals of fold changes hold {row['pairs in 90%']:.2f} of the pairs of cells"
    for fdr in differences.FDRS:
        if row[f"false at {fdr}"] > fdr + SLACK:
            yield f"{name}: {row[f'false at {fdr}']:.2f} are false at a stated {fdr}"


def of_halves(given: argparse.Namespace) -> Iterator[str]:
    """Real cells."""
    if not (k.DATA / "pbmc_facs.h5ad").exists():
        print("\nskipped: no sorted PBMC")
        return
    null = differences.of_real_cells(*((200, 20, 1) if given.quick else (500, 200, 5)))
    show("Random halves of four types of sorted PBMC, where nothing differs", null)
    keep(given, "halves", halves=null)
    yield from wrong_calls("real halves", null, differences.OURS, differences.WEIGHTED)


def of_spots(given: argparse.Namespace) -> Iterator[str]:
    """Stereoscope."""
    found = list(spots.found(100 if given.quick else 400, (5, 5) if given.quick else (None, None)))
    table = pd.DataFrame([s.row for s in found], [f"{s.kind}: {s.method}" for s in found])
    show("Stereoscope: share of true proportions in intervals", table)
    figures.of_spots(found, f"{given.stem}_spots")
    keep(given, "spots", intervals=table, levels={name: s.covered.T.to_dict() for name, s in zip(table.index, found, strict=True)})
    for s in found:
        if s.method == spots.FULL and not given.quick and s.row["90%"] < 0.9 - 2 * SLACK:
            yield f"Stereoscope, {s.kind}: 90 % intervals hold {s.row['90%']:.2f}"


def of_probabilities(part: str, said: Callable[[bool], dict[str, probabilities.Said]], given: argparse.Namespace) -> Iterator[str]:
    """Of real cells, beside what is true."""
    if not (k.DATA / "pbmc_facs.h5ad").exists():
        print("\nskipped: no sorted PBMC")
        return
    rows, bins = probabilities.tables(said(given.quick))
    show(part, rows)
    figures.of_reliability({part: bins}, f"{given.stem}_{part}")
    keep(given, part, rows=rows, reliability={name: b.to_dict("list") for name, b in bins.items()})
    ours, theirs = rows.loc["scelbo", "calibration error"], rows.loc["scvi-tools", "calibration error"]
    if ours > theirs + SLACK:
        yield f"{part}: calibration error {ours:.3f}, scvi-tools {theirs:.3f}"


def of_proteins(given: argparse.Namespace) -> Iterator[str]:
    """totalVI's foreground."""
    panels = {}
    for kind, said in foreground.found(given.quick).items():
        rows, panels[kind] = probabilities.tables(said)
        show(f"Foreground of proteins: {kind}", rows)
        ours, theirs = rows.loc["scelbo", "calibration error"], rows.loc["scvi-tools", "calibration error"]
        if ours > theirs + SLACK:
            yield f"proteins, {kind}: calibration error {ours:.3f}, scvi-tools {theirs:.3f}"
        keep(given, f"proteins, {kind}", rows=rows, reliability={name: b.to_dict("list") for name, b in panels[kind].items()})
    figures.of_reliability(panels, f"{given.stem}_proteins")


PARTS: dict[str, Part] = {
    "scvi": lambda given: of_family(k.SCVI_NB, "scvi", given),
    "zinb": lambda given: of_family(k.SCVI_ZINB, "zinb", given),
    "peakvi": lambda given: of_family(k.PEAKS, "peakvi", given),
    "spots": of_spots,
    "halves": of_halves,
    "labels": lambda given: of_probabilities("labels", lambda quick: probabilities.of_labels(0, 3 if quick else 60), given),
    "types": lambda given: of_probabilities("types", lambda quick: probabilities.of_types(0, 5 if quick else None), given),
    "doublets": lambda given: of_probabilities("doublets", lambda quick: probabilities.of_doublets(1 if quick else 2), given),
    "proteins": of_proteins,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny cells and trainings: does it run? Its numbers say nothing")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", help="where numbers and figures go (default: results/; of a smoke run nowhere)")
    given = parser.parse_args()
    given.stem = Path(given.out or (tempfile.mkdtemp() if given.quick else RESULTS)) / "calibration"
    quiet()
    wrong: list[str] = []
    for part in given.only:
        start = time.process_time()
        wrong += PARTS[part](given)
        print(f"\n({part}: {time.process_time() - start:.0f} CPU s)", flush=True)
    if given.quick:
        wrong = [text for text in wrong if "check is wrong" in text]
    print(f"\n({load()})", *wrong, "FAILED" if wrong else "passed", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
