"""Markdown, read back by a parser of it."""

from __future__ import annotations

import itertools
from html import unescape

import pytest
from markdown_it import MarkdownIt

from lotus_ray.report.formats.markdown import escaped, to_markdown
from lotus_ray.report.formats.shown import one_line
from tests.report.test_against import IMAGENET
from tests.report.test_against import entry as paper_entry
from tests.report.test_formats import HOSTILE, hostile, rivals

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def rendered(text: str) -> str:
    return str(PARSER.render(text))


def cells(text: str) -> list[list[str]]:
    """Return the text of each cell, row by row, its markup left out."""
    found: list[list[str]] = []
    tokens = PARSER.parse(text)
    for before, token in itertools.pairwise(tokens):
        if token.type == "tr_open":
            found.append([])
        if before.type in ("th_open", "td_open"):
            children = token.children or []
            found[-1].append("".join(c.content for c in children if c.type != "html_inline"))
    return found


def paragraphs(text: str) -> list[str]:
    """Return the texts of paragraphs, list items and headings, where none of them has markup."""
    inline = [token.children or [] for token in PARSER.parse(text) if token.type == "inline"]
    assert all(child.type in ("text", "text_special") for of in inline for child in of)
    return ["".join(child.content for child in of) for of in inline]


def test_a_table_is_read_as_one() -> None:
    found = cells(to_markdown(rivals()))
    assert found[0][:2] == ["Method", "RF-JSD"]
    assert [row[0] for row in found] == ["Method", "A", "B", "C"]
    assert {len(row) for row in found} == {11}
    assert found[1][1] == "1.10e-02 ±1.00e-03"


def test_the_best_is_bold_and_the_second_best_italic() -> None:
    html = rendered(to_markdown(rivals()))
    assert "<strong>1.10e-02 ±1.00e-03</strong>" in html
    assert "<em>2.10e-02 ±1.00e-03</em>" in html
    assert "<li><strong>bold</strong>: best, <em>italic</em>: second best</li>" in html


def test_hostile_names_come_back_literally_and_are_no_markup() -> None:
    text = to_markdown([hostile()])
    name = one_line(HOSTILE)
    assert cells(text)[1][0] == name
    html = rendered(text)
    for tag in ("<script", "<code", "<em", "<strong", "<s>", "<a ", "<img"):
        assert tag not in html
    title = html.partition("<h3>")[2].partition("</h3>")[0]
    assert unescape(title) == f"{name}, {name}, {name}"
    assert f"no JSD: {name}</li>" in unescape(html)


@pytest.mark.parametrize(
    "name",
    [
        *("- a", "+ a", "* a", "1. a", "12) a", "# a", "> a", "a\\|b", "a\\", "|", "```", "==="),
        *("---", "&amp;", "<!-- a", "![a](b)", "[a]: b", "~~a~~", "**a**", "$a$", "__a__", "\\*a"),
    ],
)
def test_a_name_comes_back_wherever_it_stands(name: str) -> None:
    assert paragraphs(escaped(name)) == [name]
    assert cells(f"| {escaped(name)} |\n| - |\n| {escaped(name)} |")[1] == [name]
    assert paragraphs(f"- {escaped(name)}") == [name]
    assert paragraphs(f"### {escaped(name)}") == [name]


def test_published_lines_stand_under_measured_ones() -> None:
    text = to_markdown([paper_entry(IMAGENET, "SalUn", "SalUn(RL)")], "paper")
    found = cells(text)
    place = [row[0] for row in found].index("SalUn")
    assert found[place + 1][0] == "↳ published as SalUn(RL)k"
    assert found[place + 1][2] == "59.27 ±0.37d"
    html = rendered(text)
    assert "59.27 ±0.37<sup>d</sup>" in html
    assert html.count("<sup>d</sup>") == 3, "Bad Teacher, SalUn and the footnote"


def test_a_store_without_rows_says_so() -> None:
    assert to_markdown([]) == "The store holds no rows.\n"
