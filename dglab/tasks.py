"""Tasks as the paper writes them: ``G+S+I+M->C`` trains on four source domains and tests on an unseen fifth."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dglab.utils.errors import InputError

DOMAIN_NAMES = {"G": "GTA5", "S": "SYNTHIA", "I": "IDD", "M": "Mapillary", "C": "Cityscapes"}  # of the paper

_LETTER = re.compile(r"[A-Za-z][A-Za-z0-9]*")


def are_the_papers(letters: Iterable[str]) -> bool:
    """Whether domains have the letters of the paper's five; the paper's tasks, order and numbers then apply to them."""
    return set(letters) == set(DOMAIN_NAMES)


def first_letter(name: str) -> str:
    """The default letter of a domain: the first ASCII letter of its folder's name, in upper case, or ""."""
    found = re.search(r"[A-Za-z]", name)
    return found.group().upper() if found else ""


@dataclass(frozen=True)
class Task:
    """Source domains to train on and unseen target domains to test on, each by its letter.

    Args:
        sources, targets: letters.
        unseen: False for the bound, a network trained on the target's own training images: ``C->C``.

    Raises:
        InputError: for a target among the sources, a domain named twice, or a side without domains.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    unseen: bool = True

    def __post_init__(self) -> None:
        for role, letters in (("source", self.sources), ("target", self.targets)):
            if not letters:
                raise InputError(f"a task needs at least one {role} domain, got none; write for example G+S+I+M->C")
            if len(set(letters)) < len(letters):
                raise InputError(f"task {self}: a {role} domain is named twice; name each domain once")
        both = [letter for letter in self.targets if letter in self.sources]
        if both and self.unseen:
            raise InputError(
                f"task {self}: {', '.join(both)} is both source and target; "
                "a target domain must be unseen in training, so remove it from one side"
            )

    def __str__(self) -> str:
        return f"{'+'.join(self.sources)}->{'+'.join(self.targets)}"

    @property
    def target(self) -> str:
        """The targets as the paper writes them, ``C`` or ``C+M``."""
        return "+".join(self.targets)


def parse_task(text: str, known: tuple[str, ...] | None = None, *, unseen: bool = True) -> Task:
    """Read ``G+S+I+M->C``; spaces do not matter.

    Args:
        text: source letters joined by ``+``, an arrow ``->``, target letters joined by ``+``.
        known: the letters of the domains at hand; None accepts any.
        unseen: False accepts the bound's ``C->C``, see :class:`Task`.

    Raises:
        InputError: if the text has another form or names an unknown domain.
    """
    sides = [side.strip() for side in text.split("->")]
    if len(sides) != 2:
        raise InputError(f"cannot read task {text!r}: expected sources->targets with one arrow, as in G+S+I+M->C")
    sources, targets = ([letter.strip() for letter in side.split("+")] if side else [] for side in sides)
    for letter in (*sources, *targets):
        if not _LETTER.fullmatch(letter):
            raise InputError(f"cannot read task {text!r}: {letter!r} is not a domain letter; an example is G+S+I+M->C")
        if known is not None and letter not in known:
            raise InputError(
                f"task {text!r} names the domain {letter!r}, which is not available; the domains are {', '.join(known)}"
            )
    return Task(tuple(sources), tuple(targets), unseen)


def sources_of(task: str) -> str:
    """The sources of a task, with an unseen target or not, as the paper writes them: ``G+S`` of ``G+S->C``."""
    return "+".join(parse_task(task, unseen=False).sources)
