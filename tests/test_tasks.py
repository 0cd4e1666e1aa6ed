"""Tasks as the paper writes them: what is read, and that every bad one is refused in words."""

import pytest

from dglab.tasks import DOMAIN_NAMES, Task, parse_task
from dglab.utils.errors import InputError


@pytest.mark.parametrize(
    ("text", "sources", "targets"),
    [
        ("G+S+I+M->C", ("G", "S", "I", "M"), ("C",)),
        ("G+S+I->C+M", ("G", "S", "I"), ("C", "M")),  # a mixed target
        ("G->C", ("G",), ("C",)),
        ("N2+T->Day3", ("N2", "T"), ("Day3",)),  # letters of prepared domains may go on with digits and letters
    ],
)
def test_a_task_is_read_and_written_back(text, sources, targets):
    task = parse_task(text)
    assert task == Task(sources, targets)
    assert str(task) == text
    assert parse_task(str(task)) == task
    assert task.target == text.split("->")[1]


def test_spaces_do_not_matter_and_order_does():
    assert parse_task("  G + S+ I ->  C +M ") == parse_task("G+S+I->C+M")
    assert parse_task("S+G->C") != parse_task("G+S->C")  # the order of sources is that of the batch's domains


def test_a_task_can_key_a_table():
    assert {parse_task("G+S->C"): 1}[Task(("G", "S"), ("C",))] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("G+S+C", "one arrow"),
        ("G->S->C", "one arrow"),
        ("", "one arrow"),
        ("G+S>C", "one arrow"),
        ("G+S→C", "one arrow"),
        ("->C", "at least one source domain, got none"),
        ("G+S->", "at least one target domain, got none"),
        ("G+S->  ", "at least one target domain, got none"),
        ("G++S->C", "'' is not a domain letter"),
        ("+G->C", "'' is not a domain letter"),
        ("G+S->C+", "'' is not a domain letter"),
        ("G,S->C", "'G,S' is not a domain letter"),
        ("G S->C", "'G S' is not a domain letter"),
        ("2N->C", "'2N' is not a domain letter"),
        ("G+Ü->C", "'Ü' is not a domain letter"),
        ("G+G->C", "a source domain is named twice"),
        ("G->C+C", "a target domain is named twice"),
        ("G+C->C", "C is both source and target"),
        ("G+S+C+M->C+M", "C, M is both source and target"),
    ],
)
def test_a_bad_task_is_refused_in_words(text, message):
    with pytest.raises(InputError) as caught:
        parse_task(text)
    assert message in str(caught.value)


def test_unknown_domains_are_named_beside_the_known():
    known = tuple(DOMAIN_NAMES)
    assert parse_task("G+S->C", known) == Task(("G", "S"), ("C",))
    for text in ("G+X->C", "G+S->X"):
        with pytest.raises(InputError, match="'X'.*not available.*G, S, I, M, C"):
            parse_task(text, known)
    with pytest.raises(InputError, match="'g'"):  # letters are case sensitive: no guessing
        parse_task("g->C", known)


def test_a_task_built_in_code_is_checked_alike():
    with pytest.raises(InputError, match="both source and target"):
        Task(("G", "C"), ("C",))
    with pytest.raises(InputError, match="source domain is named twice"):
        Task(("G", "G"), ("C",))
    with pytest.raises(InputError, match="at least one source"):
        Task((), ("C",))
