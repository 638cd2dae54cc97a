"""How long and how tangled the models' code is, beside scvi-tools' and Stereoscope's original: `make metrics`.

Writes docs/developer/metrics.md, and fails where a target is missed. Lines of code are those that are neither blank, nor comment, nor
docstring; complexity is McCabe's, the mean over functions and methods, by radon.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import grimp
import networkx as nx
from radon.complexity import cc_visit

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "python" / "scelbo"
PAGE = ROOT / "docs" / "developer" / "metrics.md"
MOST_LINES, MOST_SHARE, LONGEST_COPY = 300, 0.4, 10
ORIGINAL = ("Stereoscope, its authors' own", 1900, 3.5)
"""Lines and mean complexity that Gayoso et al. (Nature Biotechnology 40:163, 2022) give for the original code of Stereoscope."""

MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "SCVI": (("models/scvi",), (), ("model/_scvi", "module/_vae:VAE")),
    "LinearSCVI": (("models/linear_scvi",), (), ("model/_linear_scvi", "module/_vae:LDVAE")),
    "SCANVI": (("models/scanvi",), (), ("model/_scanvi", "module/_scanvae")),
    "AUTOZI": (("models/autozi",), (), ("model/_autozi", "module/_autozivae")),
    "PEAKVI": (("models/peakvi",), (), ("model/_peakvi", "module/_peakvae")),
    "TOTALVI": (("models/totalvi",), ("proteins",), ("model/_totalvi", "module/_totalvae")),
    "MULTIVI": (("models/multivi",), ("proteins", "multiome"), ("model/_multivi", "module/_multivae")),
    "AmortizedLDA": (("models/amortized_lda",), (), ("model/_amortizedlda", "module/_amortizedlda")),
    "CondSCVI": (("models/condscvi",), (), ("model/_condscvi", "module/_vaec")),
    "DestVI": (("models/destvi",), ("models/of_reference",), ("model/_destvi", "module/_mrdeconv")),
    "Stereoscope": (("models/stereoscope",), ("models/of_reference",), ("external/stereoscope/_model", "external/stereoscope/_module")),
    "CellAssign": (("models/cellassign",), (), ("external/cellassign/_model", "external/cellassign/_module")),
    "SOLO": (("models/solo",), ("nn/doublets",), ("external/solo/_model",)),
    "GIMVI": (("models/gimvi",), (), tuple(f"external/gimvi/_{part}" for part in ("model", "module", "task", "utils"))),
}
"""Model -> its file here, what it shares with its kin alone, the peer's files (or a class of one)."""


@dataclass(frozen=True)
class Measured:
    """Lines, those of code, functions and the sum of their complexities."""

    lines: int = 0
    code: int = 0
    functions: int = 0
    paths: int = 0

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.lines + other.lines, self.code + other.code, self.functions + other.functions, self.paths + other.paths)

    @property
    def complexity(self) -> float:
        """The mean."""
        return self.paths / max(1, self.functions)


def code_of(text: str, imports: bool = True) -> list[tuple[int, str]]:
    """Number and content of the lines that are neither blank, nor comment, nor docstring (nor, without ``imports``, import)."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if documents or (not imports and isinstance(node, ast.Import | ast.ImportFrom)):
            skipped |= set(range(node.lineno, node.end_lineno + 1))
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in skipped)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def measured(folder: Path, part: str) -> Measured:
    """A file, or a class of one: ``"module/_vae:VAE"``."""
    name, _, own = part.partition(":")
    text = (folder / f"{name}.py").read_text()
    if own:
        node = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == own)
        text = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    functions = [block for block in cc_visit(text) if block.letter in "FM"]
    return Measured(len(text.splitlines()), len(code_of(text)), len(functions), sum(block.complexity for block in functions))


def total(folder: Path, parts: tuple[str, ...]) -> Measured:
    """Of several."""
    return sum((measured(folder, part) for part in parts), Measured())


def circles(package: str = "scelbo") -> list[list[str]]:
    """Modules that import each other in a circle; imports for annotations alone do not count."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    edges = [(m, other) for m in graph.modules for other in graph.find_modules_directly_imported_by(m)]
    return [sorted(circle) for circle in nx.strongly_connected_components(nx.DiGraph(edges)) if len(circle) > 1]


def copies(longest: int = LONGEST_COPY) -> list[str]:
    """Where more than ``longest`` lines of code stand twice, however they are indented; imports do not count."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(CORE.rglob("*.py")):
        code = code_of(path.read_text(), imports=False)
        for at in range(len(code) - longest):
            run = tuple(line for _, line in code[at : at + longest + 1])
            places[run].append(f"{path.relative_to(CORE)}:{code[at][0]}")
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def peer_folder() -> Path | None:
    """Where scvi-tools is installed, or None."""
    return next(iter((ROOT / ".venv-peer").glob("lib/python*/site-packages/scvi")), None)


def table(peer: Path) -> tuple[list[str], list[str]]:
    """The page's rows, and the targets that are missed."""
    rows, missed = [], []
    for model, (own, shared, theirs) in MODELS.items():
        here, whole, there = total(CORE, own), total(CORE, own + shared), total(peer, theirs)
        share = here.code / there.code
        kin = f"{whole.code}" if shared else ""
        counted = f"{here.lines} | {here.code} | {kin} | {there.lines} | {there.code} | {share:.0%}"
        rows.append(f"| {model} | {counted} | {here.complexity:.1f} | {there.complexity:.1f} |")
        if here.lines > MOST_LINES:
            missed.append(f"{model} has {here.lines} lines, more than {MOST_LINES}")
        if share > MOST_SHARE:
            missed.append(f"{model} has {share:.0%} of the peer's lines of code, more than {MOST_SHARE:.0%}")
        if round(here.complexity, 1) > round(there.complexity, 1):
            missed.append(f"{model} has a mean complexity of {here.complexity:.1f}, the peer's {there.complexity:.1f}")
    return rows, missed


HEAD = """# Metrics

Written by `make metrics`. Lines of the model's file; "code" are those without blanks, comments and docstrings; "with kin" adds the code of
files that it shares with one or two others, or has for itself. Of scvi-tools {version} the files of its model and module. Complexity is
McCabe's, the mean over functions and methods. Targets: at most {lines} lines, at most {share:.0%} of the peer's code, at most its
complexity; no circle of imports, and no run of more than {copy} lines of code that stands twice.

| model | lines | code | with kin | scvi-tools: lines | code | share | complexity | scvi-tools |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
{rows}
| {original} | | | | {original_lines:,} | | | | {original_complexity} |

The last row is what Gayoso et al. (Nature Biotechnology 40:163, 2022) give. Further models, `examples/models/`:

| model | lines | code | complexity |
|---|--:|--:|--:|
{examples}
"""


def page(rows: list[str], version: str) -> str:
    """docs/developer/metrics.md."""
    folder = ROOT / "examples" / "models"
    examples = [(path.stem, measured(folder, path.stem)) for path in sorted(folder.glob("*.py"))]
    name, lines, complexity = ORIGINAL
    return HEAD.format(
        version=version, lines=MOST_LINES, share=MOST_SHARE, copy=LONGEST_COPY, rows="\n".join(rows),
        original=name, original_lines=lines, original_complexity=complexity,
        examples="\n".join(f"| {stem} | {m.lines} | {m.code} | {m.complexity:.1f} |" for stem, m in examples),
    )  # fmt: skip


def main() -> int:
    """Measure, write, judge."""
    peer = peer_folder()
    if peer is None:
        print("the peer is not installed: make venv-peer")
        return 1
    version = next(peer.parent.glob("scvi_tools-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    rows, missed = table(peer)
    PAGE.write_text(page(rows, version))
    print(PAGE.read_text())
    missed += [f"import each other: {', '.join(circle)}" for circle in circles()]
    missed += [f"the same {LONGEST_COPY + 1} lines: {where}" for where in copies()]
    print("\n".join(missed) or "all targets are met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
