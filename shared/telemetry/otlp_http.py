"""The connection to an OTLP/HTTP endpoint: one attempt to send a batch, redirects and partial successes included."""

import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import requests

from .otlp_response import Attempt, Fate, classify, redirected
from .target import Target

MOST_REDIRECTS = 3
MOST_BYTES = 64 * 1024
LONGEST_DETAIL = 200
_SECRET = 8
"""The least letters of a header's value that is kept out of what is logged: a shorter one is part of ordinary words."""


class OtlpHttp:
    """The connection to a target; `response_type` and `rejected_field` are how OTLP calls a partial success of the signal."""

    def __init__(self, target: Target, response_type: Any, rejected_field: str) -> None:
        self.target = target
        self._response_type = response_type
        self._rejected_field = rejected_field
        shown = {"Content-Type", "User-Agent"}
        own = {name: value for name, value in target.headers.items() if name not in shown}
        self._own_headers = own
        self._session = requests.Session()
        self._session.trust_env = False  # what counts of the environment is in the target
        self._session.verify = target.certificate
        self._session.cert = target.client_certificate
        self._session.proxies = dict(target.proxies)

    def send(self, body: bytes) -> Attempt:
        """Make an attempt with a body that is compressed; whatever goes wrong is in what it gives."""
        late = self.target.late_headers() if self.target.late_headers else {}
        if self.target.late_headers and not late:
            return Attempt(Fate.WAITS, cause="there is nothing to log in with yet")
        try:
            response = self._post(body, late)
            content = _content(response, self.target.timeout)
        except Exception as error:  # from the name service to the certificate: none of it may end the sending thread
            return Attempt(Fate.WAITS, cause=_cause_of(error, self.target.timeout))
        attempt = classify(response.status_code, response.headers)
        if attempt.fate is Fate.DELIVERED:
            return self._partial(attempt, content)
        detail = self._detail(response.headers.get("Content-Type", ""), content)
        return attempt if detail in attempt.cause else replace(attempt, cause=f"{attempt.cause}: {detail}")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _post(self, body: bytes, late: Mapping[str, str]) -> requests.Response:
        headers = {**self.target.headers, **late}
        if self.target.is_compressed:
            headers["Content-Encoding"] = "gzip"
        else:
            body = gzip.decompress(body)

        def post(url: str) -> requests.Response:
            return self._session.post(
                url, body, headers=headers, timeout=self.target.timeout, allow_redirects=False, stream=True
            )

        url = self.target.url
        response = _twice(lambda: post(url))
        for _ in range(MOST_REDIRECTS):
            new = redirected(response.status_code, response.headers.get("Location"), url)
            if new is None:
                break
            url = new
            response.close()
            response = post(url)
        return response

    def _partial(self, attempt: Attempt, content: bytes) -> Attempt:
        """Read how many of a batch the backend rejected within its success."""
        try:
            partial = self._response_type.FromString(content).partial_success
        except Exception:  # a response that is not OTLP says nothing of it
            return attempt
        rejected = max(0, getattr(partial, self._rejected_field))
        return replace(attempt, rejected=rejected, cause=self._shown(partial.error_message)) if rejected else attempt

    def _detail(self, kind: str, content: bytes) -> str:
        is_text = kind.startswith(("text/plain", "application/json"))
        return self._shown(content.decode(errors="replace")) if is_text else ""

    def _shown(self, text: str) -> str:
        """Give what a backend says as it may be logged: short, printable, and with none of what we sent to prove who we are."""
        late = self.target.late_headers() if self.target.late_headers else {}
        for secret in (value for value in (*self._own_headers.values(), *late.values()) if len(value) >= _SECRET):
            text = text.replace(secret, "[redacted]").replace(secret.rpartition(" ")[2], "[redacted]")
        return "".join(letter if letter.isprintable() else " " for letter in text)[:LONGEST_DETAIL].strip()


def _content(response: requests.Response, timeout: float) -> bytes:
    """Read as much of a response as OTLP can have to say, in as long as an attempt may last: it may be anybody's, and endless."""
    content, deadline = b"", time.monotonic() + timeout
    while len(content) < MOST_BYTES and time.monotonic() < deadline:
        part = response.raw.read1(MOST_BYTES, decode_content=True)
        if not part:
            break
        content += part
    else:
        response.close()  # with the connection, as the rest of it is still to come
    return content


def _twice(post: Callable[[], requests.Response]) -> requests.Response:
    """Try once more where a connection fails at once: the backend may have closed it while it was idle."""
    try:
        return post()
    except requests.Timeout:
        raise
    except requests.ConnectionError:
        return post()


def _cause_of(error: BaseException, timeout: float) -> str:
    """Say why there was no response, without the request's URL, which the library's own words repeat."""
    if isinstance(error, requests.Timeout):
        return f"no response within {timeout:g} s"
    inmost = error
    while (nested := _wrapped(inmost)) is not None:
        inmost = nested
    reason = getattr(inmost, "strerror", None) or getattr(inmost, "reason", None)
    if type(inmost) is OSError and not reason:
        reason = str(inmost)  # of a certificate file that is not there
    return reason if isinstance(reason, str) else type(inmost).__name__


def _wrapped(error: BaseException) -> BaseException | None:
    """Give the error within an error: urllib3 keeps it as a reason, requests as an argument, Python as the cause."""
    parts = getattr(error, "reason", None), *error.args, error.__cause__, error.__context__
    return next((part for part in parts if isinstance(part, BaseException)), None)
