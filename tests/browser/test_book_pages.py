"""A page of the book, opened as a file."""

from pathlib import Path

from tools import book


def test_a_page_of_the_book(page, barriers, shot, tmp_path, monkeypatch):
    """Mathematics has a size, solutions open, links lead on."""
    notebooks = Path(__file__).parents[2] / "notebooks"
    two = [notebooks / "00_start_here.ipynb", notebooks / "09_the_paper.ipynb"]
    monkeypatch.setattr(book, "find_lessons", lambda: two)
    book.main(str(tmp_path))
    page.goto((tmp_path / "index.html").as_uri())
    page.get_by_role("link", name="00 Start here").click()
    formula = page.locator("math[display=block]").first.bounding_box()
    assert formula["height"] > 30 and formula["width"] > 100
    solution = page.locator("details").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "def mean_iou" in solution.locator("pre").inner_text()
    assert barriers(page) == []
    shot(page, "book")
    page.get_by_role("link", name="09 The paper").first.click()
    assert page.locator("h1").first.inner_text().startswith("09 The paper")
