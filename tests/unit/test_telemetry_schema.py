"""The registries of our telemetry names hold what the code declares, and nothing of the conventions."""

from shared.telemetry import LinkReason, semconv
from shared.tracing import names
from tests.telemetry_names import GROUPS, conventional, own_attributes

LATER = {"messaging.system.name", "rabbitmq.destination.routing_key", "rabbitmq.message.delivery_tag"}
"""Of v1.45 of the conventions, which Python's package does not know yet."""


def test_every_name_that_is_declared_is_ours_or_of_the_conventions() -> None:
    declared = {
        value
        for module in (semconv, names)
        for name, value in vars(module).items()
        if name.isupper() and name[0] != "_" and name != "SCHEMA_URL"
    }
    written = {
        name
        for switch in ("", "messaging")
        for group in (semconv.messaging_names(switch),)
        for name in (*group.system, *group.routing_key, *group.delivery_tag)
    }

    assert declared - {names.ASK_DEFERRED} | written <= own_attributes() | conventional() | LATER


def test_no_name_of_ours_is_in_a_namespace_of_the_conventions() -> None:
    namespaces = {name.partition(".")[0] for name in conventional() if "." in name}

    assert not {name for name in own_attributes() if "." in name and name.partition(".")[0] in namespaces}


def test_the_reasons_of_links_are_the_members_of_their_attribute() -> None:
    (reason,) = (each for group in GROUPS for each in group.get("attributes", ()) if each.get("id") == "link.reason")

    assert [member["value"] for member in reason["type"]["members"]] == [each.value for each in LinkReason]


def test_every_entry_says_what_it_is() -> None:
    entries = [each for group in GROUPS for each in (group, *group.get("attributes", ()))]

    assert not [entry for entry in entries if "ref" not in entry and not entry.get("brief")]
