"""A colour for each service, the same on every page."""

_COLOURS = 8
_MOST = 256
"""Names that are remembered, so that invented ones cannot fill the memory."""


class Palette:
    """Gives out the colours of the stylesheet in the order in which services are first seen."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def css_class(self, service: str) -> str:
        """The class that carries the colour of a service."""
        if service not in self._classes:
            if len(self._classes) >= _MOST:
                self._classes.clear()
            self._classes[service] = f"service-{len(self._classes) % _COLOURS}"
        return self._classes[service]
