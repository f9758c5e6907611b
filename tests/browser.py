"""A real Chromium without a screen, for tests that look at pages as a person would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_PAGE_LOAD_S = 60
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # of a container's root
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",  # a mouse
    "--no-first-run",
    "--disable-background-networking",  # requests are the page's own
    "--disable-component-update",
    "--enable-unsafe-swiftshader",  # WebGL where there is no GPU
)


@contextmanager
def browser(*, offline: bool = False, width: int = 1400, height: int = 1000) -> Iterator[Chrome]:
    """Chromium with its console and its requests on record; skips the test where Chromium is not installed.

    Parameters
    ----------
    offline : bool
        No name is resolved, not even localhost, and the network is cut off: only files open.
    width, height : int
        Of the window, in pixels.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*_FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    if offline:
        options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    opened = Chrome(options=options, service=Service(driver))  # both named: Selenium looks for nothing in the network
    try:
        opened.set_page_load_timeout(_PAGE_LOAD_S)
        if offline:
            opened.execute_cdp_cmd("Network.enable", {})
            cut = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
            opened.execute_cdp_cmd("Network.emulateNetworkConditions", cut)
        yield opened
    finally:
        opened.quit()


def console_errors(opened: Chrome) -> list[str]:
    """What pages have written to the console as errors since the last call; uncaught exceptions too."""
    return [entry["message"] for entry in opened.get_log("browser") if entry["level"] == "SEVERE"]


def requested(opened: Chrome) -> list[str]:
    """Every URL that pages have asked for since the last call, data URIs apart."""
    events = (json.loads(entry["message"])["message"] for entry in opened.get_log("performance"))
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]
