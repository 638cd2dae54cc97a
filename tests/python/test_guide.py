"""The developer's guide: its code runs, page after page, and says what the code does."""

import re
from pathlib import Path

import pytest
import torch

from scelbo.model import MODELS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "developer"
PAGES = ["data", "module", "model", "training"]


def test_the_code_of_the_guide_runs(capsys):
    known, space = dict(MODELS), {"__name__": "guide"}
    try:
        for page in PAGES:
            blocks = re.findall(r"^```python\n(.*?)^```", (GUIDE / f"{page}.md").read_text(), re.M | re.S)
            assert len(blocks) >= 3
            for i, block in enumerate(blocks, 1):
                with torch.random.fork_rng():
                    exec(compile(block, f"{page}.md, block {i}", "exec"), space)
    finally:
        MODELS.clear()
        MODELS.update(known)
    assert "1 checks passed" in capsys.readouterr().out


@pytest.mark.parametrize("page", [*PAGES, "README", "surface"])
def test_its_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", (GUIDE / f"{page}.md").read_text())
    assert [link for link in links if not (GUIDE / link).exists()] == []
