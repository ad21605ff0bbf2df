"""What a setting takes, in words beside its type: the page of all settings is written from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Takes:
    """Metadata of an annotated type."""

    words: str
