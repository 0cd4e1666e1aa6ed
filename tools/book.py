"""The lessons as a book: ``python -m tools.book [FOLDER]`` (``make book``), plain pages without kernel or network.

Each lesson becomes a page with its stored outputs, the solutions folded away and the teacher's remarks left out. Its
mathematics is MathML, which browsers draw by themselves: no script, no fonts from elsewhere. Links to the project's
files hold where the folder lies in a clone, as ``book`` does.
"""

import html
import os
import re
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from dglab.teaching.execution import find_lessons
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from tools.course import tag

MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$([.,;:)]*)", re.S)  # with what must not begin the next line
TASK = re.compile(r"\w(?:\+\w)*-&gt;\w(?:\+\w)*")  # G+S->C, which would else break at its arrow
CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>)", re.S)
MATH_STYLE = """
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "DejaVu Math TeX Gyre", math; }
mfrac > * { padding: .12em .1em; } munder > :nth-child(2), munderover > :nth-child(2) { padding-top: .25em; }
"""  # the padding is for where none of these fonts is: bars and sums would touch what stands under them
STYLE = """
:root { color-scheme: light; }
body { font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1b1f24; margin: 0; }
main, nav { max-width: 60rem; margin: 0 auto; padding: .5rem 1.25rem; }
nav { display: flex; gap: 1.2rem; flex-wrap: wrap; }
p, li, h1 { max-width: 48rem; }
h1 { font-size: 1.9rem; line-height: 1.25; } h2 { margin-top: 2.4rem; border-bottom: 1px solid #d8dee4; }
a { color: #005a8f; } img { max-width: 100%; height: auto; } .anchor-link { display: none; }
pre { background: #f6f8fa; padding: .7rem .9rem; overflow-x: auto; font-size: .73rem; line-height: 1.5; }
code { background: #f3f4f6; padding: .05rem .25rem; } pre code { padding: 0; }
.output_text pre { background: none; border-left: 3px solid #d8dee4; padding: .1rem .9rem; white-space: pre-wrap; }
.whole, .dataframe td:last-child { white-space: nowrap; }
table { border-collapse: collapse; border: 0; font-size: .9rem; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e6eaee; text-align: left !important; }
math { font-size: 1.08em; } math[display=block] { overflow: visible; padding: .3rem 0; } .prompt { display: none; }
details { border-left: 3px solid #0072B2; padding-left: .8rem; margin: .6rem 0; } summary { cursor: pointer; }
@media print { nav { display: none; } details:not([open]) { display: none; }
  pre { white-space: pre-wrap; } pre, img { break-inside: avoid; } }
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body>
<nav aria-label="lessons">{links}</nav>
<main>{body}</main>
<nav aria-label="lessons, again">{links}</nav></body></html>
"""


class Lesson(HTMLExporter):
    """nbconvert's page, its mathematics as MathML."""

    def __init__(self) -> None:
        super().__init__(template_name="basic")

    @pass_context
    def markdown2html(self, context, source):  # noqa: ANN001, ANN201 (as nbconvert has it)
        """Markdown as HTML; what stands in code stays as it is."""
        parts = CODE.split(str(super().markdown2html(context, source)))
        return "".join(part if CODE.fullmatch(part) else MATH.sub(_mathml, part) for part in parts)


def _mathml(found: re.Match) -> str:
    block, inline, after = found.groups()
    formula = html.unescape(block or inline)
    try:
        drawn = convert(formula, display="block" if block else "inline")
    except Exception as error:  # latex2mathml raises nearly anything
        raise InputError(f"the formula {formula!r} is not understood ({error!r}); write it otherwise") from error
    if unknown := re.search(r"\\\w+", drawn):
        raise InputError(f"in the formula {formula!r} {unknown[0]} is not understood; write it otherwise")
    return f'<span class="whole">{drawn}{after}</span>' if after else drawn


def _whole(found: re.Match) -> str:
    return f'<span class="whole">{found[0]}</span>'


def page_of(lesson: NotebookNode) -> str:
    """The HTML of a lesson, without the page around it."""
    exporter, parts, heading = Lesson(), [], ""
    metadata = {name: value for name, value in lesson.metadata.items() if name != "widgets"}
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        if tag(cell) == "instructor":
            continue
        cell.get("outputs", [])[:] = [_still(output) for output in cell.get("outputs", [])]
        drawn = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=[cell], metadata=metadata))[0]
        drawn = re.sub(r'alt="No description[^"]*"', f'alt="{html.escape(f"figure: {heading}")}"', drawn)
        if tag(cell) == "solution":
            drawn = f"<details><summary>A solution</summary>{drawn}</details>"
        parts.append(drawn)
    page = "\n".join(parts).replace("<pre", '<pre tabindex="0"')  # long lines scroll, by the keyboard, too
    texts = re.split(r"(<pre.*?</pre>)", page, flags=re.S)
    page = "".join(text if text.startswith("<pre") else TASK.sub(_whole, text) for text in texts)
    return re.sub(r'href="([0-9][0-9]_\w+)\.ipynb', r'href="\1.html', page)


def _still(output: NotebookNode) -> NotebookNode:
    """An output without a kernel: a widget becomes a sentence."""
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        sentence = "<p><em>Live in the notebook, where a kernel runs.</em></p>"
        return nbformat.v4.new_output("display_data", {"text/html": sentence})
    return output


def title_of(lesson: NotebookNode) -> str:
    """Its first heading."""
    return lesson.cells[0].source.splitlines()[0].lstrip("# ")


def main(folder: Annotated[Path, typer.Argument(help="to write into")] = Path("book")) -> None:
    """Write the book into a folder."""
    out, paths = Path(folder), find_lessons()
    out.mkdir(parents=True, exist_ok=True)
    lessons = {path.stem: nbformat.read(path, 4) for path in paths}
    titles = {stem: html.escape(title_of(lesson)) for stem, lesson in lessons.items()}
    style = STYLE + MATH_STYLE + HtmlFormatter(style="default").get_style_defs(".highlight")
    names = list(lessons)
    for number, (stem, lesson) in enumerate(lessons.items()):
        before, after = names[max(0, number - 1) : number], names[number + 1 : number + 2]
        near = [("←", name) for name in before] + [("→", name) for name in after]
        links = '<a href="index.html">all lessons</a>' + "".join(
            f'<a href="{name}.html">{arrow} {titles[name]}</a>' for arrow, name in near
        )
        write_page(
            out / f"{stem}.html", PAGE.format(title=titles[stem], style=style, links=links, body=page_of(lesson))
        )
    items = "".join(f'<li><a href="{stem}.html">{title}</a></li>' for stem, title in titles.items())
    lead = "To be read; in the notebooks everything can be moved and changed."
    body = f"<h1>dglab: the lessons</h1><p>{lead}</p><ul>{items}</ul>"
    write_page(out / "index.html", PAGE.format(title="dglab: the lessons", style=style, links="", body=body))
    print(f"{len(lessons)} lessons in {out}/index.html")


def write_page(path: Path, page: str) -> None:
    """Write a page as a whole, or not at all; its links to the project's files lead there from where it lies."""
    root = find_lessons()[0].parents[1]
    up = os.path.relpath(root, path.parent.resolve()).replace(os.sep, "/")
    page = page.replace('href="../', f'href="{up}/')
    with written_whole(path) as beside:
        beside.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
