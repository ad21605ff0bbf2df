"""HTML and SVG from functions: whatever is not markup already is escaped, so nothing has to remember to."""

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"input", "link", "meta", "br"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Content = str | None
Attribute = str | int | float | bool | None


def element(tag: str, *content: Content, **attributes: Attribute) -> Markup:
    """One element. `class_` means `class`, `aria_label` means `aria-label`; True gives the bare name, None nothing."""
    opening = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{opening}>")
    return Markup(f"<{tag}{opening}>{fragment(*content)}</{tag}>")


def fragment(*content: Content) -> Markup:
    """Parts side by side, without an element around them."""
    return Markup("".join([_text(part) for part in content if part is not None]))


def joined(parts: Iterable[str], separator: str = "") -> Markup:
    """Many parts in a row."""
    return Markup(_text(separator).join([_text(part) for part in parts]))


def _text(part: str) -> str:
    return part if isinstance(part, Markup) else escape(part)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
