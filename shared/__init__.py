"""What both services agree on: messages, topology, the broker session, the database session, telemetry."""

from importlib.metadata import version

__version__ = version("traced-orders")
