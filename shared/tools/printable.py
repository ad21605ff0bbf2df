"""Text from elsewhere on a terminal."""


def printable(text: str) -> str:
    """The text without control and format characters: names come from other processes and must not steer a terminal."""
    return "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text)
