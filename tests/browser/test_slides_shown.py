"""A deck of slides, opened as a file and gone through to its end."""

from pathlib import Path

from tools import slides

# How far what stands on a slide reaches beyond it, what scrolls in itself aside; and pictures that are not drawn.
TROUBLE = """() => {
  const slide = Reveal.getCurrentSlide(), found = [];
  for (const part of slide.querySelectorAll('h1, h2, p, li, div.scroll, pre, img, math')) {
    if (part.closest('aside') || part.parentElement.closest('.scroll, pre')) continue;
    const box = part.getBoundingClientRect();
    if (box.bottom > innerHeight || box.right > innerWidth) found.push(part.textContent.slice(0, 60));
    if (part.tagName === 'IMG' && !(part.naturalWidth && box.height > 200)) found.push(part.alt);
  }
  return found;
}"""


def test_a_deck(page, barriers, shot, tmp_path, monkeypatch):
    """Every slide fits, keys turn them, and the lecturer's window shows the notes."""
    notebook = Path(__file__).parents[2] / "notebooks" / "04_tn.ipynb"
    monkeypatch.setattr(slides, "find_lessons", lambda: [notebook])
    slides.main(str(tmp_path))
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto((tmp_path / "index.html").as_uri())
    page.get_by_role("link", name="04 TN").click()
    page.wait_for_function("Reveal.isReady()")
    assert page.evaluate(TROUBLE) == [] and barriers(page) == []
    for number in range(1, page.evaluate("Reveal.getTotalSlides()")):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"Reveal.getIndices().h === {number}")
        assert page.evaluate(TROUBLE) == [], number
    with page.context.expect_page() as opened:
        page.keyboard.press("s")
    notes = opened.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("For the teacher").wait_for()
    shot(opened.value, "slides_notes")
    opened.value.close()
    page.keyboard.press("Home")
    shot(page, "slides")
