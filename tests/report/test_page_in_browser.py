"""The report's page in headless Chromium: it asks the network for nothing, fits, and sorts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from lotus_ray.report.collect import collect
from lotus_ray.report.page import to_page
from lotus_ray.store.results import Store
from tests.report.made_up import HOSTILE, commit, three_seeds

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="there is no chromium with its chromedriver"
)
Chrome = webdriver.Chrome
# Elements that reach beyond the window, but for those that scroll in a box of their own.
TOO_WIDE = """
return [...document.querySelectorAll("body *")]
  .filter(e => !e.closest(".scroll, .drawing, pre"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    store = Store.open(str(folder / "store"))
    store.check_writable()
    three_seeds(store)
    commit(store, "unsir", 1, error=HOSTILE, traceback="Traceback " + "x" * 300)
    commit(store, HOSTILE, metrics={"rf_jsd": None})
    path = folder / "report.html"
    path.write_text(to_page(collect(store), store), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    options = Options()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show(chrome: Chrome, page: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open a page in a window of a width, in pixels."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chrome.get(page.as_uri())


def requested(chrome: Chrome) -> set[str]:
    """Return the addresses that were asked for since this was last called."""
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


def column(chrome: Chrome, place: int) -> list[str]:
    """Return a column of the first table, counted from 1."""
    found: list[Any] = chrome.find_elements(
        By.CSS_SELECTOR, f"table:first-of-type tbody tr > :nth-child({place})"
    )
    rows = chrome.execute_script("return document.querySelector('tbody').rows.length")
    return [cell.text.split("\n")[0].split()[0] for cell in found[:rows]]


def colour(chrome: Chrome, selector: str, name: str) -> str:
    """Return a computed colour of an element."""
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return str(chrome.execute_script(script, selector, name))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_loads_nothing_says_nothing_and_fits(
    chrome: Chrome, page: Path, width: int, scheme: str
) -> None:
    requested(chrome)
    show(chrome, page, width, scheme)
    chrome.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    root = "document.documentElement"
    assert chrome.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0
    assert chrome.execute_script("return innerWidth") == width
    assert chrome.execute_script(TOO_WIDE) == []
    assert requested(chrome) == {page.as_uri()}
    assert chrome.get_log("browser") == []
    assert chrome.execute_script("return document.querySelectorAll('figure svg').length") > 3


def test_figures_are_read_at_every_width(chrome: Chrome, page: Path) -> None:
    """Letters of 13 points in a sheet of 560 are 10.7 pixels high in one of 460."""
    for width in (390, 1280):
        show(chrome, page, width)
        widths = chrome.execute_script(
            "return [...document.querySelectorAll('figure svg')].map(s => s.clientWidth)"
        )
        assert all(460 <= found <= 560 for found in widths)


def test_ink_follows_the_scheme(chrome: Chrome, page: Path) -> None:
    shown = {}
    for scheme in ("light", "dark"):
        show(chrome, page, scheme=scheme)
        text = colour(chrome, "figure svg text", "fill")
        assert text == colour(chrome, "body", "color")
        shown[scheme] = (text, colour(chrome, "body", "backgroundColor"))
    assert shown["light"] != shown["dark"]


def test_headings_sort_numbers_as_numbers_with_nothing_last(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    heading = chrome.find_element(By.CSS_SELECTOR, "thead th:nth-child(2)")
    button = heading.find_element(By.TAG_NAME, "button")
    written = column(chrome, 2)
    assert "-" in written
    assert heading.get_attribute("aria-sort") == "none"
    known = [float(value) for value in written if value != "-"]
    nothing = ["-"] * (len(written) - len(known))
    for order, expected in (("ascending", sorted(known)), ("descending", sorted(known)[::-1])):
        button.click()
        assert heading.get_attribute("aria-sort") == order
        assert [float(value) for value in column(chrome, 2)[: len(known)]] == expected
        assert column(chrome, 2)[len(known) :] == nothing
    button.click()
    assert heading.get_attribute("aria-sort") == "none"
    assert column(chrome, 2) == written


def test_headings_sort_by_the_keyboard(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    first, second = chrome.find_elements(By.CSS_SELECTOR, "thead th button")[:2]
    second.send_keys(Keys.ENTER)
    first.send_keys(Keys.SPACE)
    names = column(chrome, 1)
    assert names == sorted(names, key=str.lower)
    orders = chrome.execute_script(
        "return [...document.querySelectorAll('thead th')].slice(0, 2).map(h => h.ariaSort)"
    )
    assert orders == ["ascending", "none"]


def test_a_failure_opens_its_cell(chrome: Chrome, page: Path) -> None:
    show(chrome, page)
    chrome.find_element(By.CSS_SELECTOR, ".notes a").click()
    shown = chrome.find_element(By.CSS_SELECTOR, ".cell.failed pre")
    assert shown.is_displayed()
    assert "<script>alert(1)</script>" in shown.text


def test_an_address_with_a_lone_per_cent_is_no_error(chrome: Chrome, page: Path) -> None:
    chrome.get("about:blank")
    chrome.get_log("browser")
    chrome.get(f"{page.as_uri()}#%")
    assert chrome.find_elements(By.CSS_SELECTOR, "thead button")
    assert chrome.get_log("browser") == []


def test_it_is_read_without_scripts(chrome: Chrome, page: Path) -> None:
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(chrome, page)
        assert chrome.find_elements(By.CSS_SELECTOR, "thead button") == []
        assert "RF-JSD" in chrome.find_element(By.CSS_SELECTOR, "thead").text
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_print_has_the_legend_and_a_figure_can_be_saved(chrome: Chrome, page: Path) -> None:
    """What a script saves is a file of its own: black, with the name space of SVG."""
    show(chrome, page)
    legend = chrome.find_element(By.CSS_SELECTOR, ".legend")
    assert legend.get_attribute("open") is None
    chrome.execute_cdp_cmd("Page.printToPDF", {})
    assert legend.get_attribute("open") is not None
    script = """
    const done = arguments[0];
    URL.createObjectURL = blob => { blob.text().then(done); return "#"; };
    document.querySelector(".save").click();
    """
    saved = chrome.execute_async_script(script)
    assert saved.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert 'color="#000"' in saved
    assert chrome.get_log("browser") == []
