"""What the tests ask of the report's page in a browser, and do to it."""

from __future__ import annotations

from typing import Any

# Ratio of the luminances of a colour and of what lies behind it, as WCAG defines it.
CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = (c) => 0.2126 * light(c[0]) + 0.7152 * light(c[1]) + 0.0722 * light(c[2]);
const contrast = (one, other) => {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parts(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
"""
FAINT = (
    CONTRAST
    + """
const faint = [];
let seen = 0;
for (const details of document.querySelectorAll("details")) details.open = true;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = walker.nextNode(); text; text = walker.nextNode()) {
  const element = text.parentElement;
  if (!text.data.trim() || element.closest("script, style, title, option") || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const front = parts(element instanceof SVGElement ? style.fill : style.color);
  const ratio = contrast(front, behind(element));
  seen += 1;
  if (ratio < 4.5) faint.push([text.data.trim().slice(0, 40), ratio, style.color]);
}
return [seen, faint];
"""
)
SHAPES = (
    CONTRAST
    + """
const found = [];
const measure = (selector, property, ground) => {
  const paper = behind(document.querySelector(ground));
  const drawn = [...document.querySelectorAll(selector)];
  found.push(...drawn.map((item) => contrast(parts(getComputedStyle(item)[property]), paper)));
};
measure(".chart .line, .axis, .mark", "stroke", "main");
measure("#map-points use", "fill", "#map-picture");
measure(".player .limb", "stroke", "#stage canvas");
measure("select, button", "borderTopColor", "main");
return [found.length, Math.min(...found)];
"""
)
FOCUSED = """
const element = document.activeElement;
if (element === document.body) return null;
const style = getComputedStyle(element);
const all = [...document.querySelectorAll("*")];
return [all.indexOf(element), element.id || element.getAttribute("href") || element.tagName, style.outlineStyle,
  parseFloat(style.outlineWidth)];
"""
REACHABLE = """
const all = [...document.querySelectorAll("*")];
const wanted = 'a[href], button, select, input, summary, [tabindex="0"]';
return [...document.querySelectorAll(wanted)].filter((e) => e.checkVisibility()
  && !(e.type === "radio" && !e.checked)).map((e) => all.indexOf(e));
"""


def resize(browser: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(browser: Any, media: str = "", **features: str) -> None:
    listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": listed})


def element(browser: Any, identifier: str) -> Any:
    return browser.find_element("id", identifier)


def press(browser: Any, *keys: str) -> None:
    browser.switch_to.active_element.send_keys(*keys)


def focus(browser: Any, identifier: str) -> None:
    browser.execute_script(f"document.getElementById('{identifier}').focus()")


def drawing(browser: Any) -> str:
    """What the first canvas shows."""
    return str(browser.execute_script("return document.querySelector('#stage canvas').toDataURL()"))


def wait_until(browser: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(f"return {script}"))


def background(browser: Any) -> int:
    """Brightness of the page's ground, 0 to 765."""
    colour = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))
