"""The book: every page is whole by itself, and its mathematics is drawn."""

import re
from pathlib import Path

import nbformat
import pytest

from dglab.utils.errors import InputError
from tools import book

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Two lessons of ten."""
    monkeypatch.setattr(book, "find_lessons", lambda: [NOTEBOOKS / "00_start_here.ipynb", NOTEBOOKS / "04_tn.ipynb"])
    book.main(str(tmp_path))
    return tmp_path


def test_a_page_needs_nothing_else(built):
    assert {path.name for path in built.iterdir()} == {"index.html", "00_start_here.html", "04_tn.html"}
    for path in built.iterdir():
        page = path.read_text(encoding="utf-8")
        assert not re.findall(r'src="(?!data:)', page) and "<script src" not in page and "//cdn" not in page
        text = re.sub(r"<(pre|code|style|script|annotation).*?</\1>", "", page, flags=re.S)
        assert not book.MATH.search(text)
        assert "For the teacher" not in page and "No description has been provided" not in page
    assert re.search(r'<math [^>]*display="block"', (built / "04_tn.html").read_text(encoding="utf-8"))
    assert 'href="01_domains.html"' in (built / "00_start_here.html").read_text()
    assert 'href="04_tn.html"' in (built / "index.html").read_text()


def test_links_to_the_project_lead_there_from_any_folder(built):
    found = [
        link for path in built.glob("*.html")
        for link in re.findall(r'href="(\.\./[^"#]*)', path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert found and all((built / link).exists() for link in found)


def test_solutions_are_folded_away(built):
    page = (built / "04_tn.html").read_text(encoding="utf-8")
    folded = re.findall(r"<details>.*?</details>", page, flags=re.S)
    assert len(folded) == 4 and "with_prior" in folded[0]


@pytest.mark.parametrize("formula", [r"\begin{what} x", r"\nosuch x"])
def test_a_formula_that_cannot_be_drawn_is_named(formula):
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# Title\n\n${formula}$")])
    with pytest.raises(InputError, match="the formula .* is not understood|is not understood; write it otherwise"):
        book.page_of(lesson)
