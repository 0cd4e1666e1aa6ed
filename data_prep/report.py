"""What a conversion says at its end, and what ``python -m data_prep list`` says of the data sets."""

from collections import Counter

import numpy as np

from data_prep.convert import DomainReport
from data_prep.dataset import SPLITS, Dataset
from dglab.classes import CLASS_NAMES
from dglab.utils.images import brief

_SHOWN = 10  # refused pairs in the message; all of them are in refused.csv


def summary(reports: list[DomainReport]) -> str:
    """Two tables: pairs by domain and split, and the share of pixels of every class that occurs."""
    return pairs_table(reports) + "\n\n" + pixels_table(reports)


def pairs_table(reports: list[DomainReport]) -> str:
    """A line per domain and split: published, found, converted, kept and refused pairs, sizes written."""
    rows = [("domain", "letter", "split", "published", "found", "converted", "kept", "refused", "size")]
    for report in reports:
        for split in SPLITS:
            published = report.domain.published(split)
            states = [report.count(split, state) for state in ("converted", "kept", "refused")]
            rows.append(
                (
                    report.domain.name,
                    report.domain.letter,
                    split,
                    "-" if published is None else published,
                    report.found[split],
                    *states,
                    _sizes(report, split),
                )
            )
    return _table(rows, left=3)


def pixels_table(reports: list[DomainReport]) -> str:
    """Percent of all pixels by class and domain, ignored ones last; classes that never occur left out."""
    rows = [("% of pixels", *(report.domain.letter for report in reports))]
    shares = np.array([report.pixels / max(1, report.pixels.sum()) * 100 for report in reports])
    for name, column in zip((*CLASS_NAMES, "ignored"), shares.T, strict=True):
        if column.any():
            rows.append((name, *(f"{share:.2f}" if share else "-" for share in column)))
    return _table(rows, left=1)


def warnings(reports: list[DomainReport]) -> list[str]:
    """A line for every split whose number of pairs is not the published one, and for what was passed over."""
    lines = []
    for report in reports:
        for split in SPLITS:
            published, found = report.domain.published(split), report.found[split]
            if published is not None and found != published:
                lines.append(
                    f"warning: {report.domain.name} {split}: found {found} pairs, published are {published}; "
                    "is the source unpacked completely?"
                )
        skipped = sum((outcome.skipped for outcome in report.outcomes), Counter())
        if skipped:
            counts = ", ".join(f"{name} ({count})" for name, count in skipped.most_common(_SHOWN))
            rest = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
            lines.append(
                f"warning: {report.domain.name}: passed over in the labels, as by the public tool: {counts}{rest}"
            )
        turned = [outcome.pair.image for outcome in report.outcomes if outcome.turned]
        if turned:
            lines.append(
                f"warning: {report.domain.name}: {len(turned)} image(s) with an EXIF orientation, which is ignored, as "
                f"the label knows nothing of it: {brief(turned)}; rotate image and label if they do not match"
            )
    return lines


def refusals(reports: list[DomainReport]) -> list[str]:
    """The refused pairs with their reasons: the first few, and the number of the others."""
    refused = [outcome for report in reports for outcome in report.refused]
    if not refused:
        return []
    rest = len(refused) - _SHOWN
    lines = [f"refused: {outcome.reason}" for outcome in refused[:_SHOWN]]
    return lines + ([f"refused: and {rest} more"] if rest > 0 else [])


def describe(dataset: Dataset) -> str:
    """A data set for the reader: what, where, terms, size, layout, domains, mappings."""
    lines = [dataset.name, f"  {dataset.title}"]
    for key in ("download", "licence", "size", "layout"):
        lines.append(f"  {key + ':':<10}{getattr(dataset, key)}")
    for domain in dataset.domains:
        counts = f"{domain.num_train} train, {domain.num_val} val"
        lines.append(f"  {'domain:':<10}{domain.letter} = {domain.name}, folder {domain.folder}, {counts}")
    for name, mapping in dataset.mappings.items():
        lines.append(f"  {'mapping:':<10}{name} ({mapping.source})")
    return "\n".join(lines)


def _sizes(report: DomainReport, split: str) -> str:
    sizes = Counter(o.size for o in report.outcomes if o.pair.split == split and o.size is not None)
    if not sizes:
        return "-"
    (width, height), _ = sizes.most_common(1)[0]
    return f"{width} x {height}" + (f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else "")


def _table(rows: list[tuple], left: int) -> str:
    """Columns of equal width: the first ``left`` aligned left, the others right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )
