"""In a real browser every model answers what is given in any way; nothing overflows, nothing comes from elsewhere."""

import json
import shutil

import pytest
from PIL import Image
from serving import CLASSES, encoded, picture, save_net, save_program, served
from tools import need

from limbeck.ui.opened import opened

need("playwright", "chromium")
from playwright import sync_api  # noqa: E402

pytestmark = pytest.mark.slow

SIZES = ((320, 640), (390, 844), (768, 1024), (1400, 900))


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    grey = save_net(folder / "grey")
    long = save_net(folder / "_".join(["a_run_with_a_name_of_one_word"] * 4), channels=3, size=40, seed=1)
    program = save_program(grey, folder / "x.program")
    with opened((grey, long, program), data="digits:optdigits") as page, served(page) as port:
        yield port


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as running:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=camera)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, port):
    """Return a function that opens the page. In the end nobody may have complained or asked elsewhere."""
    contexts, complaints = [], []

    def note(kind, text, expected):
        if not any(words in text for words in expected):
            complaints.append((kind, text))

    def opens(size=SIZES[-1], *, scheme="light", expected=()):
        context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: note("console", message.text, expected))
        page.on("pageerror", lambda error: note("error", str(error), expected))
        here = (f"http://127.0.0.1:{port}/", "data:")
        page.on("request", lambda request: request.url.startswith(here) or note("request", request.url, ()))
        page.goto(here[0])
        page.locator(".slider").first.wait_for()
        return page

    yield opens
    for context in contexts:
        context.close()
    assert complaints == []


def answered(page):
    """Return the cards' texts once every model has answered what was asked last."""
    sync_api.expect(page.locator(".card.waiting")).to_have_count(0, timeout=60_000)
    sync_api.expect(page.locator(".card li")).to_have_count(15, timeout=60_000)  # five of each of three models
    return page.locator(".card").all_inner_texts()


def give(page, data, name="photo.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})
    return answered(page)


def slide(page, name, value):
    page.locator(f"input[name={name}]").fill(str(value))
    return answered(page)


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def without_times(cards):
    return [
        [line for line in card.splitlines() if not line.startswith(tuple("0123456789")) or "%" in line]
        for card in cards
    ]


def test_the_page_opens_with_a_held_out_image_that_is_judged(visit):
    page = visit()
    cards = answered(page)
    assert all(card.endswith("wrong") for card in cards)  # no model here knows digits
    assert page.locator("h1").inner_text() == "Limbeck"
    assert page.locator(".card h2").all_inner_texts()[::2] == ["grey", "x.program"]
    assert page.locator(".slider").count() == 5
    assert page.locator("#given").is_visible()


def test_every_model_answers_a_chosen_image(visit):
    page = visit()
    cards = give(page, encoded(picture(200, 150, 3)))
    for card in cards:
        assert any(name in card for name in CLASSES)
        assert " ms" in card
    assert page.locator("#caption").inner_text() == "photo.png"
    assert page.locator("#given").is_visible()
    assert page.locator("#seen").evaluate("image => image.naturalWidth") == 40  # of the sharpest net


def test_every_model_answers_a_dropped_image(visit):
    page = visit()
    wanted = give(page, encoded(picture(200, 150, 3)))
    page = visit()
    dropped = page.evaluate_handle(
        "bytes => { const given = new DataTransfer();"
        " given.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'})); return given; }",
        list(encoded(picture(200, 150, 3))),
    )
    page.dispatch_event("#stage", "dragover", {"dataTransfer": dropped})
    page.dispatch_event("#stage", "drop", {"dataTransfer": dropped})
    assert without_times(answered(page)) == without_times(wanted)
    assert page.locator("#caption").inner_text() == "dropped.png"


def test_every_model_answers_a_drawing(visit):
    page = visit()
    page.click("#draw")
    box = page.locator("#canvas").bounding_box()

    def point(x, y):
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*point(0.3, 0.2))
    page.mouse.down()
    page.mouse.move(*point(0.7, 0.2), steps=5)
    page.mouse.up()
    first = without_times(answered(page))
    page.mouse.move(*point(0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*point(0.5, 0.9), steps=5)
    page.mouse.up()
    assert without_times(answered(page)) != first
    page.click("#draw")  # wipes it
    assert page.locator("#hint").is_visible()
    brightest = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
        ".reduce((most, value, place) => place % 4 < 3 ? Math.max(most, value) : most, 0)"
    )
    assert page.locator("#canvas").evaluate(brightest) == 0


def test_a_held_out_image_shows_its_label_and_who_is_right(visit):
    page = visit()
    page.click("#sample")
    cards = answered(page)
    assert page.locator("#caption").inner_text()[0].isdigit()  # a class of digits
    assert all(card.endswith("wrong") for card in cards)  # no model here knows digits


def test_sliders_change_the_answers_and_reset_brings_them_back(visit):
    page = visit()
    before = without_times(give(page, encoded(picture(28, 28))))
    for name, value in (("contrast", 0), ("noise", 0.5), ("background", 1)):
        assert without_times(slide(page, name, value)) != before
        page.click("#again")
        assert without_times(answered(page)) == before


def test_every_image_begins_without_a_shift(visit):
    page = visit()
    data = encoded(picture(28, 28))
    before = without_times(give(page, data))
    slide(page, "contrast", 0)
    assert without_times(give(page, data)) == before
    assert page.locator("input[name=contrast]").input_value() == "1"


def test_every_model_answers_the_camera_until_it_is_stopped(visit):
    page = visit()
    answered(page)
    page.click("#camera")
    sync_api.expect(page.locator("#film")).to_be_visible()
    first = page.locator("#seen").get_attribute("src")
    page.wait_for_function("first => document.querySelector('#seen').src !== first", arg=first)
    moving = page.locator("#seen").get_attribute("src")
    page.wait_for_function("before => document.querySelector('#seen').src !== before", arg=moving)
    page.click("#camera")
    answered(page)
    assert page.locator("#film").is_hidden()
    assert page.locator("#given").is_visible()
    assert page.locator("#camera").inner_text() == "Camera"


def test_cards_have_room_for_what_they_show_and_no_more(visit):
    page = visit()
    answered(page)
    holes = page.locator(".card .answer").evaluate_all(
        "all => all.map(a => a.clientHeight - [...a.children].reduce((sum, e) => sum + e.offsetHeight, 0))"
    )
    assert all(hole < 40 for hole in holes)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_window(visit, size):
    page = visit(size)
    assert fits(page)
    give(page, encoded(picture(150, 300, 3)), "a_file_with_a_very_long_name_that_has_no_spaces_in_it_at_all.png")
    assert fits(page)
    shown = page.locator(".card").evaluate_all("cards => cards.every(card => card.scrollWidth <= card.clientWidth)")
    assert shown


def test_the_page_is_dark_where_people_like_it_dark(visit):
    colour = "document => getComputedStyle(document).backgroundColor"
    light, dark = (visit(scheme=scheme).locator("html").evaluate(colour) for scheme in ("light", "dark"))
    assert light != dark


def test_what_goes_wrong_is_said_on_the_page(visit):
    page = visit(expected=("400 (Bad Request)", "ERR_FAILED"))
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"not an image"})
    status = page.locator("#status.bad")
    status.wait_for()
    assert "not an image of a known kind" in status.inner_text()
    give(page, encoded(Image.new("L", (28, 28))))
    assert page.locator("#status").inner_text() == ""
    page.route("**/answers*", lambda route: route.abort())
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": encoded(picture(28, 28))})
    sync_api.expect(status).to_contain_text("is limbeck serve still running?", timeout=60_000)


def test_a_file_over_the_limit_is_not_even_sent(visit):
    page = visit()
    about = {**page.request.get(f"{page.url}about").json(), "largest_bytes": 1000}
    page.route("**/about", lambda route: route.fulfill(json=about))
    page.reload()
    answered(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": bytes(1001)})
    sync_api.expect(page.locator("#status.bad")).to_contain_text("more than 1,000 bytes", timeout=60_000)
    assert [url for url in asked if "answers" in url] == []


def test_a_model_that_fails_says_so_on_its_card(visit):
    page = visit()
    line = json.dumps({"voice": 0, "error": "grey failed: shattered"})
    picture_line = json.dumps({"label": "", "name": "", "given": "data:,", "seen": "data:,"})
    page.route("**/answers*", lambda route: route.fulfill(body=f"{picture_line}\n{line}\n"))
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": encoded(picture(28, 28))})
    page.locator(".card .bad").wait_for()
    assert page.locator(".card .bad").inner_text() == "grey failed: shattered"
