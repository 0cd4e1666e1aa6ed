"""The slides: what is shown, what is said, and that a deck is whole by itself."""

import re
from pathlib import Path

import nbformat
import pytest

from dglab.teaching.checks import EXERCISES
from tools import slides

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def lesson_of(*sources):
    """A lesson of Markdown cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source) for source in sources])


@pytest.fixture(scope="module")
def deck():
    return slides.Deck(nbformat.read(NOTEBOOKS / "04_tn.ipynb", 4))


def shown(slide):
    return "\n".join(piece.content for piece in slide.pieces)


def test_terms_and_questions_are_shown_and_the_rest_is_said():
    text = "Plain words. A **bank** keeps images. How many? Enough (as E. B. said. Really)."
    [title, slide] = slides.Deck(lesson_of("# 01 Title\n\nHow one begins.", f"## Section\n\n{text}")).slides
    assert title.title == "01 Title" and shown(title) == "* How one begins."
    assert shown(slide) == "* A **bank** keeps images.\n* How many?" and slide.notes == [text]


def test_a_question_ends_a_slide_so_that_nobody_sees_the_answer():
    cells = "# 01 T", "## A\n\n$$x = 1$$\n\nSaid. **Before you look**: will it?", "$$y = 2$$"
    first, second = slides.Deck(lesson_of(*cells)).slides
    assert (
        first.notes == ["Said."]
        and shown(first).endswith("> **Before you look**: will it?")
        and shown(second) == "$$y = 2$$"
        and first.title == second.title
    )


def test_a_long_list_goes_on():
    items = "\n".join(f"* item {number}" for number in range(30))
    deck = slides.Deck(lesson_of("# 01 T", f"## A\n\nThey are:\n{items}"))
    assert [slide.title for slide in deck.slides] == ["A"] * 4
    assert "\n".join(map(shown, deck.slides)) == items


def test_figures_stand_alone_and_code_to_write_is_shown(deck):
    pictures = [slide for slide in deck.slides if "<img" in shown(slide)]
    lesson = nbformat.read(NOTEBOOKS / "04_tn.ipynb", 4)
    stored = [out for cell in lesson.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == len(stored) > 5 and all(shown(one).count("<img") == 1 for one in pictures)
    assert any("def by_own_statistics" in shown(slide) for slide in deck.slides)


def test_exercises_come_without_answers_and_the_notes_have_them(deck):
    [one] = [slide for slide in deck.slides if slide.title == "Exercise 04.2"]
    notes = "\n".join(one.notes)
    assert "def with_prior" in shown(one) and "running_mean +" not in shown(one) and "SOLUTION" not in notes
    assert "prior * layer.running_mean" in notes and "12 minutes" in notes
    assert all(mistake.hint in notes for mistake in EXERCISES["04.2"].mistakes)


def test_a_deck_needs_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "find_lessons", lambda: [NOTEBOOKS / "04_tn.ipynb"])
    slides.main(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "04_tn.html"}
    page = (tmp_path / "04_tn.html").read_text(encoding="utf-8")
    assert not re.findall(r"<link|<script[^>]+src|@import", page)
    assert not re.findall(r'\bsrc="(?!data:)', re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    assert page.count("<section>") == page.count('<aside class="notes">') == len(re.findall(r"<section><h[12]", page))
    assert "reveal.js 5" in page and "<math" in page
    assert 'href="04_tn.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")
