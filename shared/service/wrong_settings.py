"""Settings that are wrong, told in a sentence each, which names the setting and never repeats its value."""

from collections.abc import Iterator

from pydantic import ValidationError


def sentences(error: ValidationError) -> Iterator[str]:
    """Say of each setting what is wrong with it: what is found first, where that is more than one thing."""
    told = set()
    for part in error.errors(include_url=False, include_input=False):
        setting, *inside = part["loc"] or ("",)
        if setting in told:
            continue
        told.add(setting)
        where = "".join(f" {name}:" for name in inside if not str(name).startswith("["))
        message = part["msg"].removeprefix("Value error, ")
        yield f"{str(setting).upper()}:{where} {message}" if setting else message
