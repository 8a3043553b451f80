# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as a browser shows it: nothing sticks out, nothing overlaps, everything can be read, nothing is complained of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._page import page
from ansible_collections.multinic.kubernetes.tests.page.browser import Browser
from ansible_collections.multinic.kubernetes.tests.unit import page_reports as reports

REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "4": reports.four,
    "4-in-trouble": reports.four_in_trouble,
    "typo": reports.typo,
    "shapes": reports.shapes,
    "dual-stack": reports.dual_stack,
    "doctor": reports.doctor,
    "100": reports.many,
    "100-in-10-racks": lambda: reports.many(100, 10),
    "100-with-long-names": lambda: reports.many(name="storage-and-compute-{:03d}-rack-{:02d}-eu-central-1"),
}


class Window(NamedTuple):
    name: str
    width: int
    height: int
    dark: bool = False
    phone: bool = False


WINDOWS = (
    Window("light", 1440, 900),
    Window("dark", 1440, 900, dark=True),
    Window("phone", 390, 844, phone=True),
    Window("phone-dark", 320, 640, dark=True, phone=True),
)

# Elements that reach beyond the window, unless something around them scrolls or cuts.
STICKING_OUT = """(() => {
  const wide = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > wide) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (!box.width || (box.right <= wide + 0.5 && box.left >= -0.5) || element.matches(".skip")) continue;
    let around = element.parentElement, held = false;
    for (; around && around !== document.body; around = around.parentElement)
      if (getComputedStyle(around).overflowX !== "visible") held = true;
    if (!held) found.push(`${element.tagName} ${element.className.baseVal ?? element.className}: ${box.left} to ${box.right}`);
  }
  return found.slice(0, 10);
})()"""

# Labels of the drawing that lie upon each other, or leave their drawing or their box.
OVERLAPPING = """(() => {
  const found = [];
  for (const svg of document.querySelectorAll(".drawing svg")) {
    const whole = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(text => [text, text.getBoundingClientRect()]);
    texts.sort((one, other) => one[1].top - other[1].top);
    texts.forEach(([text, box], place) => {
      if (box.right > whole.right + 0.5 || box.left < whole.left - 0.5 || box.bottom > whole.bottom + 0.5)
        found.push(`${text.textContent} leaves the drawing`);
      const label = text.parentElement.querySelector(".label");
      if (label && box.right > label.getBoundingClientRect().right - 2)
        found.push(`${text.textContent} leaves its box by ${box.right - label.getBoundingClientRect().right}`);
      for (let next = place + 1; next < texts.length && texts[next][1].top < box.bottom - 3; next++) {
        const other = texts[next][1];
        if (other.left < box.right - 1 && box.left < other.right - 1)
          found.push(`${text.textContent} upon ${texts[next][0].textContent}`);
      }
    });
    for (const label of svg.querySelectorAll(".label"))
      if (label.getBoundingClientRect().right > whole.right) found.push("a label leaves the drawing");
  }
  return found.slice(0, 10);
})()"""

# Texts whose contrast to what lies behind them is below AA.
PALE = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const shine = colour => { const [r, g, b] = colour.slice(0, 3).map(value => {
    value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { for (; element; element = element.parentElement) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour; } return [255, 255, 255]; };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || element.closest("svg, .hidden, .skip")) continue;
    const [dark, light] = [shine(parse(getComputedStyle(element).color)), shine(behind(element))].sort((a, b) => a - b);
    if ((light + 0.05) / (dark + 0.05) < 4.5) found.add(`${element.tagName}.${element.className}: ${element.textContent.slice(0, 40)}`);
  }
  return [...found].slice(0, 10);
})()"""

SMALLEST = """Math.min(...[...document.querySelectorAll("body *")].filter(element => element.children.length === 0 &&
  element.textContent.trim()).map(element => parseFloat(getComputedStyle(element).fontSize)))"""


@pytest.fixture(params=REPORTS, scope="module")
def file(request: pytest.FixtureRequest, shots: Path) -> Path:
    path: Path = shots / f"{request.param}.html"
    path.write_text(page(REPORTS[request.param]()), encoding="utf-8")
    return path


@pytest.mark.parametrize("window", WINDOWS, ids=[window.name for window in WINDOWS])
def test_it_is_shown_whole(browser: Browser, shots: Path, file: Path, window: Window) -> None:
    browser.open(file, window.width, window.height, dark=window.dark, phone=window.phone)
    browser.shoot(shots / f"{file.stem}-{window.name}.png")
    assert browser.ask(STICKING_OUT) == []
    assert browser.ask(OVERLAPPING) == []
    assert browser.ask(PALE) == []
    assert browser.ask(SMALLEST) >= 9
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(14, 19, 25)" if window.dark else "rgb(244, 246, 249)"
    )
    assert browser.complaints == []


def test_it_prints(browser: Browser, shots: Path, file: Path) -> None:
    browser.open(file, 1440, 900, dark=True)
    browser.print(shots / f"{file.stem}.pdf")
    assert (shots / f"{file.stem}.pdf").read_bytes().startswith(b"%PDF")
    assert browser.complaints == []


def test_names_stay_in_sight(browser: Browser, shots: Path) -> None:
    """On a phone the drawing and the matrix scroll below their hosts' names."""
    file = shots / "100.html"
    file.write_text(page(reports.many()), encoding="utf-8")
    browser.open(file, 390, 844, phone=True)
    for container, name in ((".drawing", ".names"), (".matrix", "tbody th"), ("#hosts table", "tbody th")):
        left = browser.ask(
            f"""(() => {{ const held = document.querySelector("{container}"), around = held.closest(".scroll, .drawing");
            around.scrollTo(5000, 0); return [around.scrollLeft > 0,
            held.querySelector("{name}").getBoundingClientRect().left - around.getBoundingClientRect().left]; }})()"""
        )
        assert left[0], f"{container} does not scroll"
        assert 0 <= left[1] <= 10, container


def test_the_tests_can_fail(browser: Browser, tmp_path: Path) -> None:
    """What is looked for is found where it is."""
    text = page(reports.four())
    bad = '<p style="width:200vw">wide</p><p style="color:#ccc">pale</p><img src="x.png" alt="">'
    file = tmp_path / "bad.html"
    file.write_text(text.replace("<main", f"{bad}<main"), encoding="utf-8")
    browser.open(file, 1440, 900)
    assert len(browser.ask(STICKING_OUT)) >= 2
    assert len(browser.ask(PALE)) == 1
    assert browser.complaints
    crowded = text.replace("192.168.253.129/24</tspan>", f"{'1' * 90}</tspan>")
    assert crowded != text
    file.write_text(crowded, encoding="utf-8")
    browser.open(file, 1440, 900)
    assert browser.ask(OVERLAPPING)
