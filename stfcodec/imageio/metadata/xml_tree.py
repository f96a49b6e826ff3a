"""Where the elements and attributes of an XML text lie, so that parts can be cut out of it.

All other bytes of the text stay as they are, which a parser and a writer of XML would not grant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_MAX_ELEMENTS = 50_000
_TAG = re.compile(
    rb"<(?P<close>/?)(?P<name>[^\s<>/\"'=!?]++)"
    rb"(?P<rest>(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+)>"
)
_ATTRIBUTE = re.compile(rb"(?<!\s)\s++([^\s<>/\"'=]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_SKIPPED = ((b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>"))


class XmlError(ValueError):
    """The text is no well-formed XML, or has a document type or too many elements."""


class Attribute(NamedTuple):
    """From the white space before its name to the quote that ends its value."""

    name: bytes
    value: bytes
    begin: int
    end: int


@dataclass(slots=True)
class Element:
    """An element of the text. Names are as written, with prefix."""

    name: bytes
    begin: int
    content_begin: int
    """Behind the start tag; the end of the element if it has no end tag."""
    attributes: list[Attribute]
    content_end: int = 0
    end: int = 0
    children: list[Element] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all within it, in the order of the text."""
        stack = [self]
        while stack:
            element = stack.pop()
            yield element
            stack += reversed(element.children)

    def first(self, name: bytes) -> Element | None:
        """The first element of this name."""
        return next((element for element in self.walk() if element.name == name), None)

    def namespaces(self) -> dict[bytes, bytes]:
        """Prefixes that this element declares, and what they stand for."""
        prefix = b"xmlns:"
        declared = (a for a in self.attributes if a.name.startswith(prefix))
        return {a.name.removeprefix(prefix): a.value for a in declared}


def parse(text: bytes) -> Element:
    """The root, an element without a name around the whole text. Raises XmlError.

    Takes time and memory in proportion to the text.
    """
    root = Element(b"", 0, 0, [], len(text), len(text))
    open_elements, count, at = [root], 0, 0
    while (at := text.find(b"<", at)) >= 0:
        if skipped_to := _end_of_skipped(text, at):
            at = skipped_to
            continue
        tag = _TAG.match(text, at)
        count += 1
        if tag is None or count > _MAX_ELEMENTS:
            raise XmlError
        at = tag.end()
        if tag["close"]:
            element = open_elements.pop()
            if element.name != tag["name"] or not open_elements:
                raise XmlError
            element.content_end, element.end = tag.start(), tag.end()
            continue
        element = Element(tag["name"], tag.start(), tag.end(), _attributes(tag))
        open_elements[-1].children.append(element)
        if tag["rest"].endswith(b"/"):
            element.content_end = element.end = tag.end()
        else:
            open_elements.append(element)
    if len(open_elements) > 1:
        raise XmlError
    return root


def _end_of_skipped(text: bytes, at: int) -> int:
    """The end of a comment, character data or instruction that begins here; 0 if none does."""
    for opening, closing in _SKIPPED:
        if text.startswith(opening, at):
            end = text.find(closing, at + len(opening))
            if end < 0:
                raise XmlError
            return end + len(closing)
    return 0


def _attributes(tag: re.Match[bytes]) -> list[Attribute]:
    start = tag.start("rest")
    return [
        Attribute(
            found[1],
            found[3] if found[2] is None else found[2],
            start + found.start(),
            start + found.end(),
        )
        for found in _ATTRIBUTE.finditer(tag["rest"])
    ]


def without(text: bytes, ranges: list[tuple[int, int]]) -> bytes:
    """The text without these ranges, which may lie within one another."""
    parts, at = [], 0
    for begin, end in sorted(ranges):
        if begin >= at:
            parts.append(text[at:begin])
        at = max(at, end)
    return b"".join((*parts, text[at:]))
