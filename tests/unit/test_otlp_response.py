"""What a response means for the batch: delivered, refused for good, or to be tried again."""

import pytest

from shared.telemetry.otlp_response import Fate, classify, redirected

HERE = "http://backend:4318/v1/traces?key=secret"


@pytest.mark.parametrize(
    ("statuses", "fate"),
    [
        ([200, 202, 204], Fate.DELIVERED),
        ([300, 301, 302, 303, 304, 307, 308], Fate.WAITS),
        ([400, 404, 405, 410, 411, 413, 415, 422, 431], Fate.REFUSED),
        ([401, 403, 408, 425, 429], Fate.WAITS),
        ([500, 501, 502, 503, 504, 507, 511, 520, 599], Fate.WAITS),
    ],
)
def test_a_status_decides_the_fate_of_a_batch(statuses: list[int], fate: Fate) -> None:
    assert {status: classify(status).fate for status in statuses} == dict.fromkeys(statuses, fate)


@pytest.mark.parametrize(("status", "expected"), [(500, True), (501, True), (502, False), (503, False), (504, False)])
def test_only_some_failures_of_a_server_may_be_those_of_a_batch(status: int, expected: bool) -> None:
    assert classify(status).may_be_the_batch is expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(header: str, seconds: float | None) -> None:
    assert classify(503, {"Retry-After": header}, now=10.0).retry_after == seconds


def test_the_cause_names_the_status_and_a_redirect_its_aim_without_secrets() -> None:
    assert classify(403).cause == "403 Forbidden"
    assert classify(599).cause == "599"
    moved = classify(301, {"Location": "https://me:secret@elsewhere/v1/traces?key=secret"}).cause
    assert moved == "301 Moved Permanently to https://elsewhere/v1/traces, a redirect that is not followed"


@pytest.mark.parametrize(
    ("status", "location", "expected"),
    [
        (307, "/otlp/v1/traces", "http://backend:4318/otlp/v1/traces"),
        (308, "http://backend:4319/v1/traces", "http://backend:4319/v1/traces"),
        (308, "https://backend/v1/traces", "https://backend/v1/traces"),
        (307, "http://elsewhere:4318/v1/traces", None),
        (307, "ftp://backend/v1/traces", None),
        (307, None, None),
        (301, "/otlp/v1/traces", None),
        (302, "/otlp/v1/traces", None),
        (303, "/otlp/v1/traces", None),
        (200, "/otlp/v1/traces", None),
    ],
)
def test_a_redirect_is_followed_only_where_the_same_request_goes_to_the_same_host(
    status: int, location: str | None, expected: str | None
) -> None:
    assert redirected(status, location, HERE) == expected


def test_a_redirect_never_leads_from_tls_to_plain_text() -> None:
    assert redirected(308, "http://backend/v1/traces", "https://backend/v1/traces") is None
