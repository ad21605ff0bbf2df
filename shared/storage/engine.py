"""What runs work in transactions: plain synchronous code on a SQLAlchemy connection."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

Result = TypeVar("Result")
Work = Callable[[Connection], Result]

LOCK_SECONDS = 2.0
"""Longest wait for another process to let go of the SQLite file, or for a connection of the pool."""


class Engine(ABC):
    """Runs work in transactions, which otherwise raise what their driver raises."""

    @abstractmethod
    async def write(self, work: Work[Result]) -> Result:
        """Run work in a transaction that survives a crash of the machine once it has ended.

        Work may be run twice, so it must find what it has written. Raises CommitUnknown where only the end went wrong.
        """

    @abstractmethod
    async def read(self, work: Work[Result]) -> Result:
        """Run work in a transaction that only reads."""

    @abstractmethod
    async def migrate(self, work: Work[Result]) -> Result:
        """Run work that may take long in a transaction that writes, and beside which no other of this kind runs."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""
