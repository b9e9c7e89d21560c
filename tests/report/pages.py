"""What a page of the report holds, and what must hold for each."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from lotus_ray.report.collect import collect
from lotus_ray.report.page import to_page
from lotus_ray.store.results import Store

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping"}


class Page(HTMLParser):
    """What is in a page: elements that are closed as they are opened, texts, rows of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        self.texts.append(data)

    @property
    def text(self) -> str:
        """Return all that is read, white space as one space."""
        return " ".join("".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        """Return the values of an attribute."""
        return [value for _, found, value in self.attributes if found == name]


def html_of(store: Store) -> str:
    """Return the page of a store."""
    return to_page(collect(store), store)


def check_is_alone(html: str) -> None:
    """Assert that a page can ask the network for nothing and runs no script but its own."""
    found = Page(html)
    assert (found.tags["script"], found.tags["style"]) == (1, 1)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    loads = [(tag, name, value) for tag, name, value in found.attributes if name in LOADS]
    assert all((tag, name) == ("img", "src") for tag, name, _ in loads)
    assert all(re.match(r"data:image/(png|jpeg);base64,", value) for *_, value in loads)
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
    links = [value for _, name, value in found.attributes if name in ("href", "clip-path")]
    assert all(re.match(r"#|url\(#|data:text/(csv|x-tex);", link) for link in links)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in re.sub(r"clip-path=\"url\(#[^)]*\)\"", "", html)
    assert "@import" not in html
    (policy,) = [v for v in found.values("content") if "default-src" in v]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("img-src data:; base-uri 'none'; form-action 'none'")
    assert "unsafe" not in policy


def check_links(html: str) -> None:
    """Assert that ids are unique and links lead somewhere."""
    found = Page(html)
    ids = found.values("id")
    assert len(set(ids)) == len(ids)
    links = [value for tag, name, value in found.attributes if (tag, name) == ("a", "href")]
    links = [link for link in links if not link.startswith("data:")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
