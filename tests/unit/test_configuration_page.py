"""The page of all settings says what the settings are."""

from pathlib import Path

from tests.configuration_page import PAGE, READ_BY, page

EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text()


def test_the_page_is_written_from_the_settings_as_they_are() -> None:
    assert PAGE.read_text() == page(), "`make docs` writes it anew"


def test_every_setting_is_in_the_example_of_an_environment_file() -> None:
    names = [name.upper() for kind in READ_BY.values() for name in kind.model_fields]

    assert [name for name in names if f"#{name}=" not in EXAMPLE] == []
