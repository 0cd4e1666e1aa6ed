"""The lessons as slides with notes: ``python -m tools.slides [FOLDER]`` (``make slides``), one HTML file a lesson.

On a slide stands what a class looks at together: headings, formulas, lists, tables, figures, the code of *Write it*,
the exercises, and of the prose the sentences that introduce a **term** or ask a question. The rest of the prose is in
the notes, and so are the minutes, the known mistakes and the solution of an exercise. Nothing is written twice: to
change a slide, change the lesson.

A deck is one file that needs no network: reveal.js, of the package sphinx-revealjs, stands in it.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from math import ceil
from pathlib import Path
from typing import Annotated, NamedTuple

import nbformat
import typer
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from dglab.teaching.execution import find_lessons
from tools.book import MATH_STYLE, Lesson, title_of, write_page
from tools.course import for_instructors, number_of, tag

LINES = 12  # of text on a slide of 1280 x 720
LETTERS = 80  # in a line
WIDGET = "application/vnd.jupyter.widget-view+json"
ITEM = r"[*-] |\d+\. "  # how an item of a list begins
MOVE = "*Here the notebook has something to move: open it.*"
STYLE = """
.reveal { font: 30px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1b1f24; background: #fff; }
.reveal .slides { text-align: left; } .reveal .slides section { padding: 12px 0 0; height: 100%; }
.reveal h1 { font-size: 1.7em; line-height: 1.2; margin: .1em 0 .4em; }
.reveal h2 { font-size: 1.25em; line-height: 1.2; margin: 0 0 .7em; border-bottom: 3px solid #0072B2; }
.reveal a { color: #005a8f; } .reveal p, .reveal ul, .reveal ol { margin: .5em 0; } .reveal li { margin: .25em 0; }
.reveal table { border-collapse: collapse; font-size: .72em; margin: .5em 0; } .anchor-link { display: none; }
.reveal th, .reveal td { padding: .18em .7em; border-bottom: 1px solid #d0d7de; text-align: left; }
.reveal .dataframe td:last-child { white-space: nowrap; }
.reveal pre { background: #f6f8fa; padding: .6em .8em; font-size: 19px; line-height: 1.38; margin: .4em 0;
  max-height: 560px; overflow: auto; white-space: pre-wrap; }
.reveal code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
.reveal img { width: 100%; height: 580px; object-fit: contain; object-position: top; margin: 0; }
.reveal .scroll { max-height: 570px; overflow: auto; } .reveal .scroll pre { max-height: none; }
.reveal-print .scroll, .reveal-print pre { max-height: none !important; font-size: 12px; }
.reveal math[display=block] { margin: .35em 0; }
.reveal blockquote { margin: .5em 0; border-left: 8px solid #E69F00; padding-left: .8em; }
.reveal .slide-number { color: #57606a; background: none; font-size: 16px; } .reveal .progress { color: #0072B2; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{reveal_css}{style}</style></head><body>
<main class="reveal"><div class="slides">
{slides}
</div></main>
<script>{reveal}</script><script>{notes}</script>
<script>Reveal.initialize({{ hash: true, slideNumber: 'c/t', width: 1280, height: 720, margin: .03, center: false,
  transition: 'none', plugins: [RevealNotes] }});</script></body></html>
"""
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>dglab: slides</title>
<style>body {{ font: 18px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
kbd {{ border: 1px solid #8c959f; border-radius: 4px; padding: 0 .35rem; }}</style></head><body>
<main><h1>dglab: slides</h1><ul>{items}</ul>
<p><kbd>→</kbd> next, <kbd>S</kbd> a window with notes, clock and the next slide, <kbd>F</kbd> full screen,
<kbd>Esc</kbd> overview, <kbd>B</kbd> black. For paper, add <code>?view=print</code> to the address, with notes
<code>?view=print&amp;showNotes=separate-page</code>, and print.</p></main></body></html>
"""


class Piece(NamedTuple):
    """What stands on a slide, in Markdown or HTML, and how many lines of text it is worth."""

    content: str
    lines: float
    alone: bool = False  # what comes next is on another slide


@dataclass
class Slide:
    """Pieces below a title, and what the lecturer reads beside them, in Markdown."""

    title: str
    pieces: list[Piece] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    level: int = 2

    def has_room(self, piece: Piece) -> bool:
        """Whether it still fits; anything fits on an empty slide."""
        used = sum(one.lines for one in self.pieces)
        room = LINES + 2 * (self.level == 1)  # what a lesson is for is not torn
        return not self.pieces or (not self.pieces[-1].alone and used + piece.lines <= room)


class Deck:
    """The slides of a lesson."""

    def __init__(self, lesson: NotebookNode) -> None:
        self.slides = [Slide(title_of(lesson), level=1)]
        for cell in for_instructors(lesson).cells:
            self._take(cell)
        for slide in self.slides:
            if all(piece.content == MOVE for piece in slide.pieces):  # prose without a term: how its paragraphs begin
                slide.pieces[:0] = [_item(beginning(note)) for note in slide.notes]
        self.slides = [slide for slide in self.slides if slide.pieces]

    def _take(self, cell: NotebookNode) -> None:
        kind = tag(cell)
        if kind in ("prediction", "check", "further") or (kind == "exercise" and not cell["id"].startswith("ask-")):
            return
        if kind == "exercise":
            self.slides.append(Slide(f"Exercise {number_of(cell)}"))
            self._show(Piece(cell.source, _height(cell.source)))
        elif kind in ("solution", "instructor"):
            if kind == "solution" and cell.cell_type == "code":
                self._show(
                    _code(re.sub(r"( *)### BEGIN SOLUTION.*?### END SOLUTION", r"\1...", cell.source, flags=re.S))
                )
            own = cell.source if cell.cell_type == "markdown" else _code(cell.source).content
            self._note(f"**Solution**\n\n{own}" if kind == "solution" else own)
        elif cell.cell_type == "markdown":
            for block in blocks(cell.source):
                self._read(block)
        else:
            if "build" in cell.metadata.get("tags", []):
                self._show(_code(cell.source))
            for piece in _outputs(cell, self.slides[-1].title):
                self._show(piece)

    def _read(self, block: str) -> None:
        """A paragraph of the lesson: some of them are shown, most are said."""
        if block.startswith("#"):
            title = block.lstrip("# ")
            if title != self.slides[0].title and title != "Exercises":
                self.slides.append(Slide(title))
        elif re.match(rf"\$\$|\||{ITEM}", block):
            for part in _parts(block):
                self._show(Piece(part, _height(part)))
        elif block.startswith("```"):
            self._show(Piece(block, 0.8 * block.count("\n")))
        elif "**Before you" in block:
            said, mark, question = block.partition("**Before you")
            if said.strip():
                self._read(said.strip())
            self._show(Piece(f"> {mark}{question}", _height(question), alone=True))
        else:
            shown = [one for one in sentences(block) if ("**" in one or one.endswith("?")) and "**Time**" not in one]
            for sentence in shown:
                self._show(_item(sentence))
            if shown != [block]:
                self._note(block)

    def _show(self, piece: Piece) -> None:
        if not self.slides[-1].has_room(piece):
            self.slides.append(Slide(self.slides[-1].title))
        self.slides[-1].pieces.append(piece)

    def _note(self, text: str) -> None:
        self.slides[-1].notes.append(text)


def blocks(source: str) -> Iterator[str]:
    """The paragraphs of a Markdown cell; what is fenced stays together."""
    for part in re.split(r"(^```.*?^```$)", source, flags=re.M | re.S):
        if part.startswith("```"):
            yield part
            continue
        for paragraph in filter(None, map(str.strip, re.split(r"\n\s*\n", part))):
            lead, *items = re.split(rf"\n(?={ITEM})", paragraph, maxsplit=1)
            yield from [paragraph] if re.match(ITEM, paragraph) else [lead, *items]


def sentences(paragraph: str) -> list[str]:
    """Of a paragraph; what is bold is not torn."""
    found: list[str] = []
    for part in re.split(r"(?<=[.?!])\s+(?=[A-Z$*(`])", paragraph):
        last = found[-1] if found else ""
        torn = last.count("**") % 2 or last.count("$") % 2 or last.count("(") > last.count(")")
        if torn:
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def beginning(paragraph: str, letters: int = 240) -> str:
    """The first sentences of a paragraph, one at least."""
    first, *more = sentences(paragraph)
    for sentence in more:
        if len(first) + len(sentence) > letters:
            break
        first += f" {sentence}"
    return first


def _parts(block: str) -> list[str]:
    """A list by its items, so that it can go on on another slide; the rest in one piece."""
    return re.split(rf"\n(?={ITEM})", block) if re.match(ITEM, block) else [block]


def _height(block: str) -> float:
    """Lines of text that a block of Markdown takes, about."""
    if block.startswith("$$"):
        return 2 + 1.3 * block.count(r"\\")
    if block.startswith("|"):
        return 0.85 * (block.count("\n") + 1)
    return 0.4 + ceil(len(re.sub(r"\]\([^)]*\)|\\[a-z]+|[{}*]", "", block)) / LETTERS)


def _outputs(cell: NotebookNode, title: str) -> Iterator[Piece]:
    """Figures, short tables, and where something moves."""
    if "parameters" in cell.metadata.get("tags", []):
        return
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        picture = next((kind for kind in ("image/png", "image/jpeg") if kind in data), None)
        if picture:
            source = f"data:{picture};base64,{data[picture].strip()}"
            yield Piece(f'<img alt="figure: {html.escape(title)}" src="{source}">', LINES, alone=True)
        elif WIDGET in data:
            yield Piece(MOVE, 2)
        elif "text/markdown" in data:  # the library's code
            yield _scrolled(_drawn(data["text/markdown"]), 0.65 * data["text/markdown"].count("\n"))
        elif "text/html" in data and "describe(" not in cell.source:  # a study's list of trials is for the notebook
            table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)
            lines = 1 + 0.8 * table.count("<tr") + len(re.sub("<.*?>", "", table)) / 150
            yield _scrolled(table, lines)


def _scrolled(part: str, lines: float) -> Piece:
    """HTML that may be too long for a slide."""
    return Piece(f'<div class="scroll" tabindex="0">{part}</div>', lines)


def _code(code: str) -> Piece:
    """Code without the marks between which it is emptied for students."""
    bare = "\n".join(line for line in code.splitlines() if not line.strip().startswith("### "))
    return Piece(f"```python\n{bare}\n```", 1 + 0.65 * bare.count("\n"))


def _item(sentence: str) -> Piece:
    return Piece(sentence if re.fullmatch(r"\*\*[^*]+\*\*", sentence) else f"* {sentence}", _height(sentence))


def draw(slide: Slide) -> str:
    """The HTML of a slide."""
    shown = "".join(piece.content if piece.content.startswith("<") else _drawn(piece.content) for piece in slide.pieces)
    shown = re.sub(r"</(ul|ol)>\s*<\1[^>]*>", "", shown)  # items of one list
    title, notes = _drawn(f"{'#' * slide.level} {slide.title}"), _drawn("\n\n".join(slide.notes))
    page = f'<section>{title}{shown}<aside class="notes">{notes}</aside></section>'
    return re.sub(r'href="([0-9][0-9]_\w+)\.ipynb', r'href="\1.html', page)


def _drawn(text: str) -> str:
    return str(Lesson().markdown2html({}, text)).replace("<pre", '<pre tabindex="0"')  # long ones scroll


def page_of(lesson: NotebookNode) -> str:
    """A deck as one file."""
    slides = "\n".join(map(draw, Deck(lesson).slides))
    return PAGE.format(
        title=html.escape(title_of(lesson)),
        reveal_css=_reveal("dist/reveal.css"),
        style=STYLE + MATH_STYLE + HtmlFormatter(style="default").get_style_defs(".highlight"),
        slides=slides,
        reveal=_reveal("dist/reveal.js"),
        notes=_reveal("plugin/notes/notes.js"),
    )


def _reveal(name: str) -> str:
    """A file of reveal.js, to be put into a page."""
    text = (resources.files("sphinx_revealjs") / "_static" / "revealjs" / name).read_text(encoding="utf-8")
    return text.replace("</script", r"<\/script")


def main(folder: Annotated[Path, typer.Argument(help="to write into")] = Path("slides")) -> None:
    """Write the decks into a folder."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    lessons = {path.stem: nbformat.read(path, 4) for path in find_lessons()}
    for stem, lesson in lessons.items():
        write_page(out / f"{stem}.html", page_of(lesson))
    items = "".join(
        f'<li><a href="{stem}.html">{html.escape(title_of(lesson))}</a></li>' for stem, lesson in lessons.items()
    )
    write_page(out / "index.html", INDEX.format(items=items))
    print(f"{len(lessons)} decks in {out}/index.html")


if __name__ == "__main__":
    typer.run(main)
