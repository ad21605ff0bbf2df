"""Where a signal goes by the standard variables, and what of the environment of every HTTP client does not count."""

import pytest

from shared.telemetry.target import Target, target_of

OPENOBSERVE = ("http://observe:5080/api/default/v1/traces", {"Authorization": "Basic c2VjcmV0"})
P = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, OPENOBSERVE[0]),
        ({P + "ENDPOINT": ""}, OPENOBSERVE[0]),
        ({P + "ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/traces"),
        ({P + "TRACES_ENDPOINT": "http://own/any/path"}, "http://own/any/path"),
        ({P + "ENDPOINT": "http://general", P + "TRACES_ENDPOINT": "http://own"}, "http://own"),
    ],
)
def test_a_signals_own_endpoint_wins_over_the_general_one_and_that_over_what_is_known_otherwise(
    environ: dict[str, str], url: str
) -> None:
    target = target_of("traces", environ, *OPENOBSERVE)

    assert target.url == url
    assert ("Authorization" in target.headers) == (url == OPENOBSERVE[0])


def test_without_anything_it_is_the_collector_on_this_machine() -> None:
    assert target_of("logs", {}).url == "http://localhost:4318/v1/logs"


def test_headers_are_read_as_everywhere_and_a_signals_own_replace_the_general_ones() -> None:
    general = {P + "HEADERS": "authorization=Bearer%20a,x-team=orders"}

    assert target_of("logs", general).headers["authorization"] == "Bearer a"
    own = target_of("logs", {**general, P + "LOGS_HEADERS": "x-only=b"}).headers
    assert own["x-only"] == "b"
    assert "authorization" not in own


@pytest.mark.parametrize(
    ("value", "seconds", "said"),
    [
        ("10000", 10.0, ""),
        ("250", 0.25, ""),
        ("", 10.0, ""),
        ("10", 0.01, "counts milliseconds"),
        ("0", 10.0, "is no number of milliseconds"),
        ("-1", 10.0, "is no number of milliseconds"),
        ("soon", 10.0, "is no number of milliseconds"),
    ],
)
def test_timeouts_are_milliseconds(value: str, seconds: float, said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert target_of("traces", {P + "TIMEOUT": value}).timeout == seconds
    assert (said in caplog.text) if said else not caplog.text


def test_a_signals_own_timeout_wins() -> None:
    assert target_of("metrics", {P + "TIMEOUT": "1000", P + "METRICS_TIMEOUT": "3000"}).timeout == 3.0


@pytest.mark.parametrize(
    ("value", "expected"), [("", True), ("gzip", True), ("GZIP", True), ("none", False), ("zip", True)]
)
def test_bodies_are_compressed_unless_that_is_unwanted(value: str, expected: bool) -> None:
    assert target_of("traces", {P + "COMPRESSION": value}).is_compressed is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, True),
        ({"CURL_CA_BUNDLE": "curl.pem"}, "curl.pem"),
        ({"REQUESTS_CA_BUNDLE": "requests.pem", "CURL_CA_BUNDLE": "curl.pem"}, "requests.pem"),
        ({"REQUESTS_CA_BUNDLE": "requests.pem", P + "CERTIFICATE": "otlp.pem"}, "otlp.pem"),
        ({P + "TRACES_CERTIFICATE": "traces.pem", P + "CERTIFICATE": "otlp.pem"}, "traces.pem"),
    ],
)
def test_the_certificate_of_telemetry_wins_over_those_of_every_client(
    environ: dict[str, str], expected: str | bool
) -> None:
    assert target_of("traces", environ).certificate == expected


def test_a_client_certificate_may_hold_its_key_or_have_it_beside() -> None:
    assert target_of("traces", {P + "CLIENT_CERTIFICATE": "a.pem"}).client_certificate == "a.pem"
    pair = {P + "CLIENT_CERTIFICATE": "a.pem", P + "TRACES_CLIENT_KEY": "a.key"}
    assert target_of("traces", pair).client_certificate == ("a.pem", "a.key")
    assert target_of("traces", {P + "CLIENT_KEY": "a.key"}).client_certificate is None


@pytest.mark.parametrize(
    ("url", "environ", "proxied"),
    [
        ("http://collector:4318", {"HTTP_PROXY": "http://proxy:3128"}, True),
        ("http://collector:4318", {"http_proxy": "http://proxy:3128"}, True),
        ("http://collector:4318", {"ALL_PROXY": "http://proxy:3128"}, True),
        ("http://collector:4318", {"HTTPS_PROXY": "http://proxy:3128"}, False),
        ("https://collector:4318", {"HTTPS_PROXY": "http://proxy:3128"}, True),
        ("http://collector:4318", {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "other,collector"}, False),
        ("http://collector:4318", {"HTTP_PROXY": "http://proxy:3128", "no_proxy": "*"}, False),
        ("http://10.1.2.3:4318", {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8"}, False),
        ("http://127.0.0.1:5080", {"HTTP_PROXY": "http://proxy:3128"}, False),
        ("http://127.1.2.3:5080", {"HTTP_PROXY": "http://proxy:3128"}, False),
        ("http://localhost:5080", {"ALL_PROXY": "http://proxy:3128"}, False),
        ("http://[::1]:5080", {"HTTP_PROXY": "http://proxy:3128"}, False),
    ],
)
def test_proxies_are_honoured_but_never_for_this_machine(url: str, environ: dict[str, str], proxied: bool) -> None:
    target = target_of("traces", {P + "ENDPOINT": url, **environ})

    assert bool(target.proxies) is proxied


def test_neither_the_address_nor_the_representation_holds_a_secret() -> None:
    target = Target(
        "https://me:secret@backend:4318/v1/traces?key=secret",
        {"Authorization": "secret"},
        proxies={"https": "http://me:secret@proxy"},
    )

    assert target.address == "https://backend:4318/v1/traces"
    assert "secret" not in repr(target)
