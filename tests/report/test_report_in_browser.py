"""The page in a browser: silent, offline, by keyboard, in the dark, on paper, on a phone, against hostile names."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.report.report import write_report
from tests.report.conftest import SMALL
from tests.report.in_browser import (
    FAINT,
    FOCUSED,
    REACHABLE,
    SHAPES,
    background,
    drawing,
    element,
    focus,
    prefer,
    press,
    resize,
    wait_until,
)

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no Chromium with its driver on the PATH (chromium, chromium-browser or google-chrome, and chromedriver)",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def address(made: Path) -> str:
    """A page with every section."""
    report = write_report(
        made / "reproduced", made / "whole.html", SMALL, store=made / "walks.store", archive=made / "walks.sga"
    )
    assert not report.missing
    return report.path.as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(DRIVER))
    driver.get("about:blank")
    driver.get_log("performance")  # the browser's own first page
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any, address: str) -> Any:
    """The page, freshly opened at 1200 x 900, in the light."""
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    resize(chromium, 1200)
    chromium.get(address)
    return chromium


def test_the_console_stays_empty_and_nothing_is_fetched(browser: Any, address: str) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert set(sent) == {address}
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_hostile_names_do_no_harm(browser: Any) -> None:
    for identifier in ("map-person", "probe"):  # everything that shows names once more
        browser.execute_script(
            "const e = document.getElementById(arguments[0]);"
            "for (const o of e.options) { e.value = o.value; e.dispatchEvent(new Event('change')); }",
            identifier,
        )
    assert browser.execute_script("return window.harmed") is None
    assert browser.execute_script("return document.images.length") == 0
    assert "<script>window.harmed = 1</script>" in browser.find_element("tag name", "body").text
    assert browser.get_log("browser") == []


def test_only_the_pages_own_script_may_run(browser: Any) -> None:
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s);"
        "const i = document.createElement('div'); i.innerHTML = '<img src=x onerror=\"window.foreign = 1\">';"
        "document.body.append(i);"
    )
    assert browser.execute_script("return window.foreign") is None
    assert all("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_tab_reaches_every_control_in_reading_order_and_leaves_again(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    expected = browser.execute_script(REACHABLE)
    assert len(expected) > 20
    visited = []
    for _ in range(len(expected) + 1):
        press(browser, Keys.TAB)
        focused = browser.execute_script(FOCUSED)
        if focused is None or (visited and focused[0] == visited[0]):
            break
        place, name, outline, width = focused
        assert outline != "none", f"the focus on {name} cannot be seen"
        assert width >= 2, name
        visited.append(place)
    else:
        pytest.fail("Tab does not leave the page")
    assert visited == expected


def test_the_skip_link_comes_first_and_leads_to_the_content(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    press(browser, Keys.TAB)
    assert "Skip" in browser.switch_to.active_element.text
    press(browser, Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "content"


def test_play_and_pause_from_the_keyboard(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    focus(browser, "play")
    assert element(browser, "play").text == "Play"
    before = drawing(browser)
    press(browser, " ")
    assert element(browser, "play").text == "Pause"
    wait_until(browser, "document.getElementById('scrub').value > 0.25")
    WebDriverWait(browser, 30).until(lambda driver: drawing(driver) != before)  # a walk begins anew at its end
    press(browser, " ")
    assert element(browser, "play").text == "Play"
    stopped = element(browser, "scrub").get_attribute("value")
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert element(browser, "scrub").get_attribute("value") == stopped


def test_the_slider_moves_frame_by_frame(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    focus(browser, "scrub")
    frames = []
    for _ in range(3):
        frames.append(
            (int(browser.execute_script("return document.querySelector('canvas').dataset.frame")), drawing(browser))
        )
        press(browser, Keys.ARROW_RIGHT)
    assert [frame for frame, _ in frames] == [0, 1, 2]
    assert len({picture for _, picture in frames}) == 3
    assert element(browser, "clock").text == "0.3 s"
    assert "0.3 of 1.0 seconds" in element(browser, "scrub").get_attribute("aria-valuetext")


def test_a_probe_is_chosen_from_the_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    captions = "return [...document.querySelectorAll('#stage figcaption')].map((c) => c.textContent)"
    before, picture = browser.execute_script(captions), drawing(browser)
    focus(browser, "probe")
    press(browser, Keys.ARROW_DOWN)
    after = browser.execute_script(captions)
    assert after != before
    assert after[0].startswith("Probe")
    assert after[-1].startswith("Worst match")
    assert drawing(browser) != picture


def test_the_view_is_changed_from_the_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    before = drawing(browser)
    browser.execute_script("document.querySelector('input[value=side]').focus()")
    press(browser, Keys.ARROW_RIGHT)
    assert browser.execute_script("return document.querySelector('input[value=front]').checked")
    assert drawing(browser) != before


def test_arrow_keys_go_from_point_to_point_of_the_map(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    focus(browser, "map-picture")
    told = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_DOWN):
        press(browser, key)
        told.append(element(browser, "map-told").text)
    assert "frame" in told[0]
    assert len(set(told)) > 1
    ring = browser.execute_script("return document.getElementById('map-ring').cx.baseVal.value")
    assert ring > 0


def test_a_person_is_brought_out_on_the_map(browser: Any) -> None:
    browser.execute_script(
        "const s = document.getElementById('map-person'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    chosen, of_person = browser.execute_script(
        "return ['.chosen', '[data-person=\"1\"]'].map((kind) => document.querySelectorAll(`use${kind}`).length)"
    )
    assert chosen == of_person > 0
    name = browser.execute_script("return document.getElementById('map-person').selectedOptions[0].textContent")
    assert name in element(browser, "map-told").text


def test_colours_follow_the_system_until_they_are_chosen(browser: Any) -> None:
    assert background(browser) > 600
    prefer(browser, prefers_color_scheme="dark")
    assert background(browser) < 150
    choose = "const s = document.getElementById('theme'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    browser.execute_script(choose, "light")
    assert background(browser) > 600
    browser.refresh()
    assert background(browser) > 600
    prefer(browser, prefers_color_scheme="light")
    before = drawing(browser)
    browser.execute_script(choose, "dark")
    assert background(browser) < 150
    assert drawing(browser) != before
    browser.execute_script(choose, "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_shapes_stand_out_from_their_ground(browser: Any, scheme: str) -> None:
    prefer(browser, prefers_color_scheme=scheme)
    seen, faint = browser.execute_script(FAINT)
    assert seen > 200
    assert not faint
    count, least = browser.execute_script(SHAPES)
    assert count > 100
    assert least >= 3  # WCAG 1.4.11


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_but_wide_tables_scrolls_sideways(browser: Any, width: int) -> None:
    resize(browser, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    outside = browser.execute_script(
        "return [...document.querySelectorAll('main *, header *, nav *')].filter((e) => e.checkVisibility() "
        "&& !e.closest('.scroll, svg') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert not outside


def test_the_page_of_silhouettes_is_readable_in_light_and_dark_and_on_a_phone(chromium: Any, silhouettes: Path) -> None:
    study = silhouettes / "study.json"
    page = write_report(silhouettes / "views", silhouettes / "shown.html", SMALL, low_label=study).path
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    resize(chromium, 360)
    chromium.get(page.as_uri())
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return window.harmed") is None
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 360
    assert chromium.execute_script("return document.querySelectorAll('.chart .bars').length") == 8
    for scheme in ("light", "dark"):
        prefer(chromium, prefers_color_scheme=scheme)
        seen, faint = chromium.execute_script(FAINT)
        assert seen > 200
        assert not faint
        assert chromium.execute_script(SHAPES)[1] >= 3


def test_walks_are_still_pictures_on_paper_and_the_paper_is_white(browser: Any) -> None:
    shown = "return document.querySelector('{}').checkVisibility()"
    assert browser.execute_script(shown.format("#player"))
    assert not browser.execute_script(shown.format(".stills"))
    prefer(browser, "print", prefers_color_scheme="dark")
    assert not browser.execute_script(shown.format("#player"))
    assert browser.execute_script(shown.format(".stills"))
    assert browser.execute_script("return document.querySelectorAll('.still path').length") > 100
    assert background(browser) > 600
    for hidden in (".contents", ".theme", ".skip"):
        assert not browser.execute_script(shown.format(hidden))
    seen, faint = browser.execute_script(FAINT)
    assert seen > 200
    assert not faint
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF")


def test_nothing_moves_by_itself(browser: Any) -> None:
    prefer(browser, prefers_reduced_motion="reduce")
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert browser.execute_script("return document.getAnimations().length") == 0
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert float(element(browser, "scrub").get_attribute("value")) == 0


def test_without_script_there_are_still_pictures_and_no_dead_controls(browser: Any, address: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(address)
        assert browser.find_element("css selector", ".stills").is_displayed()
        for dead in ("#player", ".theme", "#map-person"):
            assert not browser.find_element("css selector", dead).is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
