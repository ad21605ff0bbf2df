"""The glossary names what is in the code, each term once."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

_ROW = re.compile(r"^\| (?P<term>[a-z ]+) \| (?P<meaning>.+) \| `(?P<name>[\w.]+)` \|$", re.MULTILINE)
ROWS = _ROW.findall((Path(__file__).parents[2] / "docs" / "glossary.md").read_text())


def test_every_term_has_one_row_and_every_row_is_read() -> None:
    terms = [term for term, _, _ in ROWS]

    assert len(terms) == len(set(terms)) >= 19


@pytest.mark.parametrize(("term", "meaning", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_a_term_is_one_sentence_and_its_name_is_in_the_code(term: str, meaning: str, name: str) -> None:
    assert meaning.endswith(".")
    assert meaning.count(". ") == 0
    assert resolve_name(name) is not None
