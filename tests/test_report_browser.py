"""The report in a real browser: every section has its place, nothing overflows, nobody is asked, in light and dark."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

import pytest
from report_runs import story
from tools import need

from limbeck.verbs.report import report

need("playwright", "chromium")
from playwright import sync_api  # noqa: E402

pytestmark = pytest.mark.slow

WIDTHS = (360, 800, 1400)  # pixels: a phone, a tablet, a desk
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width > 0 && box.right > innerWidth + 1 && !e.closest(".scroll, pre, .hidden");
}).map(e => e.outerHTML.slice(0, 90))"""


@dataclass
class Shown:
    """A page in a window, and what it did."""

    page: "sync_api.Page"
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    report(str(story(folder)), out=str(folder / "report.html"), trust=True)
    return folder / "report.html"


@pytest.fixture
def show(browser, file):
    """Return a function that opens the report in a window so wide, light or dark."""
    contexts = []

    def opened(width: int, scheme: str = "light") -> Shown:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        shown = Shown(context.new_page())
        shown.page.on("request", lambda request: shown.asked.append(request.url))
        shown.page.on("console", lambda message: shown.said.append(message.text))
        shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
        shown.page.goto(file.as_uri())
        return shown

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_every_section_has_its_place(show, width):
    page = show(width).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERFLOWING) == []
    sections = page.locator("main section").all()
    assert len(sections) == 11
    for section in sections:
        box = section.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 60
        assert section.locator("h2").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_has_room_and_every_image_is_decoded(show, width):
    page = show(width).page
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.chart:not(.key)')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(sizes) > 15
    assert min(sizes) > 100
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_asked_and_nothing_goes_wrong(show, file, scheme):
    shown = show(800, scheme)
    assert [url for url in shown.asked if not url.startswith("data:")] == [file.as_uri()]
    assert shown.said == []
    assert shown.page.evaluate("document.scripts.length") == 0


def test_light_and_dark_are_two(show):
    grounds = [show(800, scheme).page.evaluate("getComputedStyle(document.body).backgroundColor") for scheme in
               ("light", "dark")]  # fmt: skip
    assert sum(map(int, grounds[0][4:-1].split(","))) > 700
    assert sum(map(int, grounds[1][4:-1].split(","))) < 120


def test_the_contents_lead_to_every_section(show):
    page = show(1400).page
    for link in page.locator("nav a").all():
        link.click()
        top = page.locator(f"{link.get_attribute('href')} h2").bounding_box()["y"]
        assert 0 <= top < 900


def test_on_paper_all_is_unfolded(show):
    page = show(1400).page
    page.emulate_media(media="print")
    hidden = page.evaluate(
        "[...document.querySelectorAll('details dl, details table')].filter(e => !e.offsetHeight).length"
    )
    assert hidden == 0
    assert page.locator("nav").bounding_box() is None
