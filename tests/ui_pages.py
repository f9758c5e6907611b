"""MLflow's pages as a person uses them: what is on them is waited for, and what goes wrong there is written down."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from browser import console_errors
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_WAIT_S = 60  # two busy cores
_HARMLESS = (
    "/mlflow/users/current",  # a server without passwords has no users
    "ResizeObserver loop",  # Chromium's own word for a layout that took two rounds
)


class Pages:
    """One browser on one MLflow server."""

    def __init__(self, opened: Chrome, address: str, screenshots: Path) -> None:
        self.browser, self._address, self._screenshots = opened, address, screenshots

    def open(self, page: str) -> None:
        """By its address, in a fresh document: MLflow 3.17 may miss that only what follows # has changed."""
        self.browser.get("about:blank")
        self.browser.get(f"{self._address}/#{page}")

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        """What ``ready`` gives, once it is anything; elements that a redrawn page has thrown away do not count."""
        waiting = WebDriverWait(self.browser, _WAIT_S, 0.1, ignored_exceptions=(StaleElementReferenceException,))
        return waiting.until(lambda _: ready(), f"{what} on {self.browser.current_url}")

    def all(self, css: str) -> list[WebElement]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, css))

    def see(self, css: str, text: str = "") -> WebElement:
        """The first visible element that this selects and that has this text in it."""

        def found() -> WebElement | None:
            return next((one for one in self.all(css) if one.is_displayed() and text in one.text), None)

        element: WebElement = self.wait(found, f"no {css} with {text!r}")
        return element

    def click(self, css: str, text: str = "") -> None:
        def clicked() -> bool:
            element = self.see(css, text)
            self.script("arguments[0].scrollIntoView({block: 'nearest'})", element)
            element.click()
            return True

        self.wait(clicked, f"cannot click {css} with {text!r}")

    def close(self, css: str) -> None:
        """A panel that MLflow opens by itself, once for each browser."""
        self.click(css)
        self.wait(lambda: not any(one.is_displayed() for one in self.all(css)), f"{css} stays open")

    def script(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    # --- what the pages hold

    def run_names(self) -> list[str]:
        """Those in the table of runs, from top to bottom."""
        return self._rows('a[href*="/runs/"]')

    def column(self, name: str) -> list[str]:
        """What a column of that table says."""
        return self._rows(f'[col-id="{name}"]')

    def _rows(self, css: str) -> list[str]:
        code = """
        return [...document.querySelectorAll('.ag-row ' + arguments[0])].map(cell =>
            [Number(cell.closest('.ag-row').getAttribute('row-index')), cell.innerText.trim()])"""
        return [text for _, text in sorted(self.script(code, css))]

    def plots(self, kind: str) -> list[dict[str, Any]]:
        """What Plotly has drawn of a kind: ``scatter`` with name, x and y, ``parcoords`` with dimensions."""
        code = """
        return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data).map(trace => ({
            type: trace.type, name: trace.name, x: trace.x, y: trace.y,
            dimensions: (trace.dimensions || []).map(one => [one.label, one.values.length])}))"""
        return [trace for trace in self.script(code) if trace["type"] == kind]

    def coloured_share(self, css: str) -> float:
        """Share of an element's pixels that are neither white, grey nor black: lines of a plot are."""
        pixels_YXC = matplotlib.image.imread(io.BytesIO(self.see(css).screenshot_as_png))[..., :3]
        return float(np.mean(np.ptp(pixels_YXC, axis=-1) > 0.2))

    # --- what is kept

    def shoot(self, name: str, height: int) -> None:
        """The upper part of the window, in pixels."""
        clip = {"x": 0, "y": 0, "width": self.script("return window.innerWidth"), "height": height, "scale": 1}
        taken = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        (self._screenshots / f"ui_{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def troubles(self) -> Sequence[str]:
        """Errors in the console and answers of 400 and more, since the last call, that are not MLflow's own."""
        events = (json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance"))
        answers = [event["params"]["response"] for event in events if event["method"] == "Network.responseReceived"]
        refused = [f"{answer['status']} {answer['url']}" for answer in answers if answer["status"] >= 400]
        return [
            line for line in (*console_errors(self.browser), *refused) if not any(word in line for word in _HARMLESS)
        ]
