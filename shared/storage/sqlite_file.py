"""The file of a SQLite database, made before anything opens it: a place that cannot be written to ends the start."""

from pathlib import Path

from shared.contract.errors import WrongSetting


def make_file(path: Path) -> None:
    """Make the file with its directories, where it is not there; raises WrongSetting where it cannot be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise WrongSetting(f"DATABASE_URL: {path} cannot be written to: {why}") from error
