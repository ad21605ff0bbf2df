"""The trace page in a real browser: live, by mouse and by keyboard, with and without script, light and dark."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Literal

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.browser.chromium import FLAGS, chromium_path
from tests.browser.embedded_receiver import AUTH, INGEST, PROTOBUF, SETTINGS, running, serving, spans_of
from tests.browser.orders import OrderTrace, Services, services

SOON = 10_000
"""Milliseconds: a deadline for what should happen."""

# The contrast of every text with what is painted behind it, as WCAG 2 defines it; the lowest and where it is.
LOWEST_CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let lowest = [21, ""];
  for (const element of document.querySelectorAll("body *")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!isText || !element.checkVisibility() || element.closest("title, .unseen, datalist")) continue;
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      layers.unshift(at.matches(".service-box, .queue") ? style.getPropertyValue("--raised") : style.backgroundColor);
    }
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(paint(layers)), luminance(paint([...layers, ink]))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, `${element.outerHTML.slice(0, 120)} ${ink} on ${layers}`];
  }
  return lowest;
}"""


class OrderApi:
    """An order API whose orders wait in the queue; of their traces only the send has been exported."""

    def __init__(self) -> None:
        self.services: Services | None = None
        self.placed: list[OrderTrace] = []

    async def create(self, request: Request) -> Response:
        assert self.services is not None
        order_id = (await request.json())["order_id"]
        self.placed.append(order := self.services.begin(order_id))
        return JSONResponse({"order_id": order_id}, 202, {"x-trace-id": order.trace_id})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def sdk(url: str) -> Iterator[Services]:
    with services(url) as sdk:
        yield sdk


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A page that is closed before the receiver, and on which nothing goes wrong: no script error, no blocked load."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SOON)
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    page.close()
    assert wrong == []


# --- live -----------------------------------------------------------------------------------------------------------


def test_an_order_appears_on_the_open_list(page: Page, url: str, sdk: Services) -> None:
    sdk.order("o-1")
    page.goto(url)
    expect(page.locator(".traces tbody tr")).to_have_count(1)

    sdk.order("o-2", "out_of_stock")

    newest = page.locator(".traces tbody tr").first
    expect(newest).to_contain_text("o-2")
    expect(newest).to_contain_text("out of stock")
    expect(newest).to_contain_text("order-api")
    expect(newest).to_contain_text("inventory-worker")
    expect(page.locator(".traces tbody tr")).to_have_count(2)


def test_the_list_can_be_paused(browser: Browser, page: Page, url: str, sdk: Services) -> None:
    page.goto(url)
    switch = page.get_by_role("button", name="Live")
    expect(switch).to_have_attribute("data-state", "live")
    switch.click()
    expect(page.get_by_role("button", name="Paused")).to_have_attribute("aria-pressed", "false")

    with closing(browser.new_page()) as live:
        live.goto(url)
        sdk.order("o-1")
        expect(live.locator(".to-trace")).to_have_count(1)
    expect(page.locator(".to-trace")).to_have_count(0)
    page.get_by_role("button", name="Paused").click()

    expect(page.locator(".traces tbody tr")).to_have_count(1)


def test_a_trace_grows_while_it_is_looked_at(page: Page, url: str, sdk: Services) -> None:
    order = sdk.begin("o-1")
    page.goto(f"{url}/traces/{order.trace_id}")
    expect(page.locator(".span")).to_have_count(1)
    expect(page.locator(".track")).to_contain_text(["no consumer seen yet"])
    page.locator("summary.row").first.press("Enter")

    order.check(wait_ms=400)
    order.answer()

    expect(page.locator(".spans").first.locator(".span")).to_have_count(5)
    expect(page.get_by_text("400 ms in queue")).to_be_visible()
    expect(page.locator("h1")).to_contain_text("success")
    sent = page.locator(".span", has_text="send orders:inventory.check").first
    expect(sent.locator(".details")).to_be_visible()
    assert page.evaluate("document.activeElement.matches('summary.row')")


def test_the_form_places_an_order_and_opens_its_trace_as_it_grows(page: Page, url: str) -> None:
    api = OrderApi()
    with (
        serving(Starlette(routes=[Route("/orders", api.create, methods=["POST"])])) as api_url,
        running(replace(SETTINGS, order_api_url=api_url)) as receiver,
        services(receiver) as api.services,
    ):
        page.goto(receiver)
        page.get_by_label("SKU").fill("gadget")
        page.get_by_label("Order id", exact=True).fill("o-7")
        page.get_by_role("button", name="Place order").click()

        page.wait_for_url("**/traces/*?placed=o-7")
        expect(page.locator(".span")).to_have_count(1)
        api.placed[0].check()
        api.placed[0].answer()

        expect(page.locator(".spans").first.locator(".span")).to_have_count(5)
        expect(page.locator("h1")).to_contain_text("o-7")
        page.goto("about:blank")


# --- one trace ------------------------------------------------------------------------------------------------------


def test_the_waterfall_shows_who_when_and_the_wait_in_the_queue(page: Page, url: str, sdk: Services) -> None:
    order = sdk.order("o-1", wait_ms=40)
    page.goto(f"{url}/traces/{order.trace_id}")

    names = page.locator(".spans").first.locator(".name").all_inner_texts()
    boxes = [bar.bounding_box() for bar in page.locator(".spans").first.locator(".bar").all()]
    wait = page.locator(".wait").first.bounding_box()

    assert names == [
        "POST /orders",
        "send orders:inventory.check",
        "process orders:inventory.check",
        "send order-api.replies.{instance}",
        "process order-api.replies.{instance}",
    ]
    assert wait is not None
    server, sent, checked, *_ = (box for box in boxes if box is not None)
    axis = server["width"]  # 78 ms
    assert sent["x"] + sent["width"] == pytest.approx(wait["x"], abs=3)
    assert wait["x"] + wait["width"] == pytest.approx(checked["x"], abs=3)
    assert wait["width"] == pytest.approx(axis * 40 / 78, abs=4)
    expect(page.get_by_text("40.0 ms in queue")).to_be_visible()
    fills = page.locator(".spans").first.locator(".bar").evaluate_all("bars => bars.map(b => getComputedStyle(b).fill)")
    assert (fills[0], fills[2]) == (fills[1], fills[3])
    assert fills[0] != fills[2]


def test_a_link_leads_to_the_other_span_and_back(page: Page, url: str, sdk: Services) -> None:
    order = sdk.order("o-1")
    page.goto(f"{url}/traces/{order.trace_id}")
    request = page.locator(".span", has_text="POST /orders").first

    request.get_by_role("link", name="process order-api.replies.{instance}").click()
    reply = page.locator(".span.target")
    expect(reply.locator(".name")).to_have_text("process order-api.replies.{instance}")
    expect(reply.locator(".details")).to_be_visible()
    reply.get_by_role("link", name="POST /orders").click()
    expect(page.locator(".span.target .name")).to_have_text("POST /orders")

    page.get_by_role("link", name="commit reservations").click()
    expect(page.locator("h1")).to_contain_text("commit reservations")
    page.get_by_role("link", name="process orders:inventory.check · o-1").click()
    expect(page.locator("h1")).to_contain_text("POST /orders")
    expect(page.locator(".span.target .name")).to_have_text("process orders:inventory.check")


def test_a_failed_span_says_why(page: Page, url: str, sdk: Services) -> None:
    order = sdk.order("o-1", "error", fails=True)
    page.goto(f"{url}/?show=errors")

    page.get_by_role("link", name="POST /orders").click()

    failed = page.locator(".span.failed")
    expect(failed).to_contain_text("✗ the stock is away")
    failed.locator("summary.row").click()
    expect(failed.locator("pre")).to_contain_text('raise LookupError("the stock is away")')
    expect(page.locator(".headline")).to_contain_text("✗ 1")
    assert order.trace_id in page.url


def test_the_keyboard_is_enough(page: Page, url: str, sdk: Services) -> None:
    sdk.order("o-1")
    sdk.order("o-2")
    page.goto(url)

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.locator(".to-trace").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".to-trace").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("o-1")
    page.locator("summary.row").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    third = page.locator(".span").nth(2)
    expect(third.locator(".details")).to_be_visible()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


# --- finding --------------------------------------------------------------------------------------------------------


def test_the_search_opens_the_trace_of_an_order(page: Page, url: str, sdk: Services) -> None:
    order = sdk.order("o-1")
    sdk.order("o-2")
    page.goto(url)

    for wanted in ("o-1", order.trace_id, order.trace_id[:8]):
        page.get_by_role("searchbox").fill(wanted)
        page.get_by_role("searchbox").press("Enter")
        page.wait_for_url(f"**/traces/{order.trace_id}")
        page.goto(url)


def test_the_map_shows_the_way_through_the_queues_and_back(page: Page, url: str, sdk: Services) -> None:
    page.goto(f"{url}/map")
    for number in range(3):
        sdk.order(f"o-{number}")

    picture = page.locator(".service-map")
    for words in ("order-api", "inventory-worker", "orders:inventory.check", "order-api.replies.{instance}"):
        expect(picture.locator(".name", has_text=words).first).to_be_visible()
    expect(picture.get_by_text("3 sent")).to_have_count(2)
    expect(picture.get_by_text("3 processed")).to_have_count(2)
    expect(picture.get_by_text("in queue 30.0 ms · p95 30.0 ms")).to_be_visible()
    expect(picture.locator(".edge")).to_have_count(4)


def test_ten_thousand_traces_are_listed_and_live(page: Page, url: str, sdk: Services) -> None:
    begin = time.time_ns() - 10_000_000_000
    with httpx.Client(base_url=url, auth=AUTH) as client:
        for batch in range(40):
            export = ExportTraceServiceRequest()
            for number in range(batch * 250 + 1, batch * 250 + 251):
                export.MergeFrom(spans_of(number, order_id=f"many-{number}", start_ns=begin + number))
            client.post(INGEST, content=export.SerializeToString(), headers=PROTOBUF).raise_for_status()
    page.goto(f"{url}/?show=all")
    expect(page.locator(".tabs")).to_contain_text("All 10,000")
    expect(page.locator(".traces tbody tr")).to_have_count(50)

    sdk.order("newest")

    expect(page.locator(".traces tbody tr", has_text="newest")).to_be_visible()
    with httpx.Client(base_url=url) as client:
        for path in ("/?show=all", "/search?q=many-77", "/map", f"/?show=all&before={begin + 5000}-{5000:032x}"):
            # Ten times what it takes: the machine may be busy.
            assert client.get(path).elapsed.total_seconds() < 1.0


# --- for everybody --------------------------------------------------------------------------------------------------


def test_everything_can_be_read_without_script(browser: Browser, url: str, sdk: Services) -> None:
    sdk.order("o-1")
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.goto(url)
        expect(page.locator("#live-switch")).to_be_hidden()

        page.locator(".to-trace").click()
        page.locator("summary.row").nth(2).click()
        expect(page.locator(".span").nth(2).locator(".details")).to_contain_text("messaging.destination.name")
        page.get_by_role("link", name="Service map").click()
        expect(page.locator(".service-map")).to_be_visible()
        page.get_by_role("searchbox").fill("unknown")
        page.get_by_role("button", name="Find").click()

        expect(page.get_by_role("status")).to_contain_text("Nothing found for “unknown”")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_enough(
    browser: Browser, url: str, sdk: Services, scheme: Literal["light", "dark"]
) -> None:
    order = sdk.order("o-1", "error", fails=True)
    for status in ("success", "out_of_stock", "pending", "other"):
        sdk.order(f"o-{status}", status)
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        for path in ("/", f"/traces/{order.trace_id}", "/map", "/search?q=o-404"):
            page.goto(url + path)
            page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
            lowest, where = page.evaluate(LOWEST_CONTRAST)
            assert lowest >= 4.5, where


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_window_is_too_narrow(browser: Browser, url: str, sdk: Services, width: int) -> None:
    order = sdk.order("an-order-with-a-rather-long-identifier-" + "x" * 25, "error", fails=True)
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        for path in ("/", f"/traces/{order.trace_id}", "/map"):
            page.goto(url + path)
            page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
