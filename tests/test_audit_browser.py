"""The page of an audit in a real browser: answers come back as a sheet that limbeck audit reads."""

from shutil import which

import numpy as np
import pytest
from tools import need

from limbeck.deploy.audit import HEAD, read
from limbeck.page import audit

need("playwright", "chromium")
from playwright import sync_api  # noqa: E402

pytestmark = pytest.mark.slow

PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
CLASSES = ("cat", 'fire "truck", red', "</script><b>x")


def test_answers_come_back_as_a_sheet(tmp_path):
    generator = np.random.default_rng(0)
    lines = [(i, [f"{i}, ä.png", CLASSES[i % 3], float(generator.random()), 1, 9, ""]) for i in range(4)]
    path = tmp_path / "audit.html"
    path.write_text(audit.text("audit.csv", CLASSES, HEAD, lines, [PICTURE] * 4), encoding="utf-8")
    asked, said = [], []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for field, answer in zip(page.locator("input").all(), ("CAT", CLASSES[1], "dgo", "none"), strict=True):
            field.fill(answer)
        assert page.locator("#done").inner_text() == "3"
        with page.expect_download() as saved:
            page.locator("#save").click()
        saved.value.save_as(tmp_path / saved.value.suggested_filename)
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    found = read(tmp_path / "audit.csv")
    assert (found.answered, found.groups[0].right) == (3, 2)  # what is no class stays unanswered
