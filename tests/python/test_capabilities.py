"""Every cell of docs/capabilities.md that is Python's."""

import pytest
from capabilities import PAGE, answered, in_mudata, made, models, questions, table
from cases import OfTwo, arrays

from scelbo import Model

OBJECTS = [(case, kind) for case in models() for kind in ("AnnData", "MuData") if not (isinstance(case, OfTwo) and kind == "MuData")]


@pytest.mark.parametrize(("case", "kind"), OBJECTS, ids=str)
def test_each_question_is_answered(case, kind, adata):
    model = made(case, in_mudata(case, adata) if kind == "MuData" else case.data(adata))
    for question in questions(case.model):
        answer = answered(case, model, question)
        if isinstance(answer, Model):
            assert type(answer) is case.model
        else:
            assert all(part.size for part in arrays(answer)), question


def test_the_page_says_what_the_code_has():
    assert PAGE.read_text() == table(), "make capabilities writes it anew"
