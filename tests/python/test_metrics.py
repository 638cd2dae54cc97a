"""What `make metrics` measures: the targets hold, and it would see if they did not."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("radon")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "metrics.py"
spec = importlib.util.spec_from_file_location("metrics", SCRIPT)
metrics = importlib.util.module_from_spec(spec)
sys.modules["metrics"] = metrics
spec.loader.exec_module(metrics)


def test_no_modules_import_each_other():
    assert metrics.circles() == []


def test_no_code_stands_twice():
    assert metrics.copies() == []


def test_every_model_is_short_and_plain_beside_the_peers():
    peer = metrics.peer_folder()
    if peer is None:
        pytest.skip("scvi-tools is not installed: make venv-peer")
    rows, missed = metrics.table(peer)
    assert len(rows) == 14 and missed == []


def test_copies_and_circles_would_be_seen(tmp_path, monkeypatch):
    body = [f"    x{i} = {i}" for i in range(12)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("\n".join([f'"""{name}"""', f"def {name}():", "    # why", *body]))
    monkeypatch.setattr(metrics, "CORE", tmp_path)
    assert metrics.copies() == ["a.py:4 and b.py:4", "a.py:5 and b.py:5"]
    assert metrics.copies(12) == []
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle" / "__init__.py").write_text("")
    (tmp_path / "circle" / "one.py").write_text("from circle import two\n")
    (tmp_path / "circle" / "two.py").write_text("from circle import one\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert metrics.circles("circle") == [["circle.one", "circle.two"]]


def test_what_is_counted(tmp_path):
    (tmp_path / "m.py").write_text(
        '"""Doc.\n\nMore."""\n\nimport os\n\n\ndef f(a):\n    """Doc."""\n    # why\n    return 1 if a and os else 2\n'
    )
    one = metrics.measured(tmp_path, "m")
    assert (one.lines, one.code, one.functions, one.complexity) == (11, 3, 1, 3)
    (tmp_path / "n.py").write_text("class A:\n    x = 1\n\n\nclass B:\n    def f(self):\n        return 1\n")
    part = metrics.measured(tmp_path, "n:B")
    assert (part.lines, part.functions, part.complexity) == (3, 1, 1)
