"""A trace of 1,000 spans of services that are not ours: links lead to the right page, branches fold, a file is opened."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.chromium import FLAGS, chromium_path
from tests.browser.embedded_receiver import AUTH, SETTINGS, running

SOON = 20_000
TRACE = "0123456789abcdef" * 2
SPANS = 1_000
SERVICES = ("shop", "stock", "mail")
ROOMY = replace(SETTINGS, max_body=16 * 2**20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def url() -> Iterator[str]:
    with running(ROOMY) as url:
        httpx.post(f"{url}/v1/traces", json=_foreign(), auth=AUTH, timeout=30).raise_for_status()
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(SOON)
        expect.set_options(timeout=SOON)
        yield page


def _foreign() -> dict[str, Any]:
    """A tree of three children each; the last span links to the third, and the third to the last."""
    begin = time.time_ns()
    of_service: dict[str, list[dict[str, Any]]] = {name: [] for name in SERVICES}
    for number in range(SPANS):
        links = {SPANS - 1: 2, 2: SPANS - 1}
        of_service[SERVICES[number % 3]].append(
            {
                "traceId": TRACE,
                "spanId": f"{number + 1:016x}",
                "parentSpanId": f"{(number - 1) // 3 + 1:016x}" if number else "",
                "name": f"step {number}",
                "kind": 2 if number == 0 else 1,
                "startTimeUnixNano": str(begin + number * 1000),
                "endTimeUnixNano": str(begin + SPANS * 2000),
                "links": [{"traceId": TRACE, "spanId": f"{links[number] + 1:016x}"}] if number in links else [],
            }
        )
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]},
                "scopeSpans": [{"spans": spans}],
            }
            for name, spans in of_service.items()
        ]
    }


def test_a_link_leads_to_the_page_that_its_span_is_on(page: Page, url: str) -> None:
    page.goto(f"{url}/traces/{TRACE}?span={SPANS:016x}")
    link = page.locator(f"#s-{TRACE}-{SPANS:016x} .chip a").first
    expect(link).to_have_text("step 2")

    link.click()

    expect(page.locator(f"#s-{TRACE}-{3:016x}")).to_be_in_viewport()
    expect(page.locator(f"#s-{TRACE}-{3:016x}")).to_have_class(re.compile("target"))


def test_a_branch_folds_away_and_back_and_what_was_folded_in_it_stays_so(page: Page, url: str) -> None:
    page.goto(f"{url}/traces/{TRACE}")
    rows = page.locator("li.span:visible")
    whole = rows.count()
    inner, root = page.locator("button.fold").nth(1), page.locator("button.fold").first

    inner.click()
    partly = rows.count()
    root.click()
    expect(rows).to_have_count(1)
    expect(root).to_have_attribute("aria-expanded", "false")
    root.click()

    expect(rows).to_have_count(partly)
    inner.click()
    expect(rows).to_have_count(whole)


def test_the_tree_is_in_the_accessibility_tree(page: Page, url: str) -> None:
    page.goto(f"{url}/traces/{TRACE}")

    deep = page.locator(f"#s-{TRACE}-{2:016x}")

    expect(deep).to_have_attribute("aria-level", "2")
    expect(deep.locator("summary").first).to_contain_text("child of step 0")


def test_an_address_with_a_malformed_fragment_stays_live(page: Page, url: str) -> None:
    page.goto(f"{url}/traces/{TRACE}#%E0%A4%A")

    expect(page.locator("#live-switch")).to_have_attribute("data-state", "live")


def test_an_exported_file_is_opened_by_choosing_it(page: Page, url: str, tmp_path: Path) -> None:
    exported = httpx.get(f"{url}/traces/{TRACE}/export", timeout=30)
    (tmp_path / "trace.json").write_bytes(exported.content)
    with running(ROOMY) as elsewhere:
        page.goto(elsewhere)
        page.locator("#file").set_input_files(tmp_path / "trace.json")

        page.wait_for_url(f"**/traces/{TRACE}")
        expect(page.locator("h1")).to_contain_text("step 0")


def test_a_refusal_is_a_page_for_people(page: Page, url: str) -> None:
    page.goto(f"{url}/?show=nonsense")

    expect(page.locator("h1")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("show must be one of")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("path", ["/", f"/traces/{TRACE}", f"/compare?a={TRACE}&b={TRACE}", "/map", "/queues", "/logs"])
def test_nothing_is_wider_than_the_window(page: Page, url: str, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{url}{path}")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
