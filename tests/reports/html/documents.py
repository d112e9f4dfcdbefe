"""Reads HTML and the drawings in it, as tests ask about them."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from monitor.reports.html import Frame, render

_VOID = {"meta", "link", "input", "br", "hr", "img"}


class Document(HTMLParser):
    """A document whose elements are closed in order; raises AssertionError for one that is not."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    def links(self):
        return [found["href"] for tag, found in self.attributes if tag == "a"]


def drawings(markup):
    """The SVG elements of some markup, parsed as XML."""
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", str(markup), re.DOTALL)]  # noqa: S314  # our own


def page(template, now, **values):
    """A rendered page."""
    return Document(render(template, Frame(title="Title", generated_at=now, environment="test"), **values))
