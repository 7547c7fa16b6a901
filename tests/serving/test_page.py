"""The page in a real browser, with a microphone that plays a recording."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from empathy_lightning.decoding import Decoding
from tests.serving.conftest import serving
from tests.serving.test_live import noise, voice

webdriver = pytest.importorskip("selenium.webdriver", reason="driving a browser needs selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver are installed")

LONG = Decoding(40, temperature=3.0, seed=2, units_per_token=20)


@contextmanager
def browsing(running, recording, size=(1200, 860), token=None):
    """A page in a browser; what its console complains of fails the test."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "use-fake-ui-for-media-stream",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-audio-capture={recording}%noloop",
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.implicitly_wait(5)
    try:
        browser.get(f"http://127.0.0.1:{running.port}/")
        if token is not None:
            until(browser, lambda: "asks for a token: see Settings" in text(browser, "error"))
            element(browser, "open-settings").click()
            browser.find_element("name", "token").send_keys(token, webdriver.Keys.ENTER)
        until(browser, lambda: text(browser, "status") == "Ready")
        browser.get_log("browser")
        yield browser
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        browser.quit()


def until(browser, holds, seconds=40):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, seconds, 0.05).until(lambda _: holds())


def element(browser, name):
    return browser.find_element("css selector", f"#{name}")


def text(browser, name):
    return element(browser, name).text


def turns(browser):
    """Words of each turn's reply, and what is told beside it."""
    script = """return [...document.querySelectorAll('#turns li')].map(
        (turn) => [turn.querySelector('.replied').textContent, turn.querySelector('.facts').textContent])"""
    return browser.execute_script(script)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "said.wav"
    soundfile.write(path, np.concatenate([noise(1), voice(0.8), noise(3)]), 16_000, subtype="PCM_16")
    return path


def test_a_conversation_in_a_browser(bot, recording, monkeypatch):
    monkeypatch.setattr(type(bot.responder.language_model), "stop_ids", set())
    with serving(bot, decoding=LONG) as running, browsing(running, recording) as browser:
        # What is said into the microphone is answered as soon as it pauses.
        element(browser, "microphone").click()
        until(browser, lambda: text(browser, "status") == "Speaking")
        assert text(browser, "microphone-words") == "Stop"
        # Barge-in: the sound stops, and what was not heard was not said.
        press(browser, webdriver.Keys.ESCAPE)
        until(browser, lambda: "interrupted" in turns(browser)[0][1])
        assert text(browser, "status") == "Listening" and not element(browser, "interrupt").is_enabled()
        assert browser.find_element("css selector", ".unsaid").text != ""
        # What was heard is shown.
        ((reply, facts),) = turns(browser)
        assert reply and "first word" in facts
        shares = browser.find_elements("css selector", "#emotions output")
        assert len(shares) == 5 and sum(int(share.text.split()[0]) for share in shares) in range(97, 104)
        bars = browser.execute_script("return [...document.querySelectorAll('.bar')].map((bar) => bar.offsetWidth)")
        assert sum(bars) > 50
        assert len(browser.find_elements("css selector", "#points circle")) == 1
        assert text(browser, "ratings").count("0.") + text(browser, "ratings").count("1.") == 3
        for name in ("yours", "theirs"):
            assert "nothing yet" not in element(browser, name).get_attribute("aria-label")
            drawn = "const c = document.getElementById(arguments[0]); const all = c.getContext('2d').getImageData("
            drawn += "0, 0, c.width, c.height).data; return all.filter((value, place) => place % 4 == 3 && value > 40)"
            assert len(browser.execute_script(drawn + ".length ? [1] : []", name)) == 1
        # A file is the next turn of the same conversation.
        element(browser, "file").send_keys(str(recording))
        until(browser, lambda: len(turns(browser)) == 2 and "first sound" in turns(browser)[1][1])
        assert len(browser.find_elements("css selector", "#points circle")) == 2
        element(browser, "open-settings").click()
        element(browser, "forget").click()
        assert turns(browser) == [] and element(browser, "welcome").is_displayed()
        asked = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert len(asked) > 8 and all(name.startswith(f"http://127.0.0.1:{running.port}/") for name in asked)


CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255);
const light = (color) => channels(color).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
const behind = (item) => {
  const color = getComputedStyle(item).backgroundColor;
  return color.startsWith("rgba(0, 0, 0, 0)") ? behind(item.parentElement) : color;
};
return [...document.querySelectorAll("h1, h2, p, span, dt, dd, button:enabled, figcaption, kbd, output")]
  .filter((item) => item.textContent.trim() && item.offsetWidth > 2 && !item.closest(":disabled"))
  .map((item) => [light(getComputedStyle(item).color), light(behind(item))].sort())
  .map(([dark, bright]) => (bright + 0.05) / (dark + 0.05));
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_can_be_read_and_used_without_a_mouse(bot, recording, theme):
    token = "s3cret" if theme == "dark" else None
    with serving(bot, token=token) as running, browsing(running, recording, (390, 760), token) as browser:
        scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        ratios = browser.execute_script(CONTRAST)
        assert len(ratios) > 15 and min(ratios) >= 4.5
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(246, 244, 239)") is (theme == "light")
        # Every control has a name, is large enough, and is reached by Tab.
        reached = []
        for _ in range(7):
            press(browser, webdriver.Keys.TAB)
            active = browser.switch_to.active_element
            if active.tag_name != "body":
                reached.append(active.accessible_name)
                assert active.size["height"] >= 24
        assert {"Go to the controls", "Settings", "Send a file", "Speak"} <= set(reached)
        press(browser, "m")
        until(browser, lambda: element(browser, "microphone").get_attribute("aria-pressed") == "true")
        until(browser, lambda: turns(browser) and "first word" in turns(browser)[0][1])
        reply = browser.find_element("css selector", ".replied")
        assert reply.get_attribute("aria-live") == "polite" and reply.get_attribute("aria-busy") == "false"
        assert element(browser, "status").aria_role == "status" and element(browser, "plane").aria_role in (
            "img",
            "image",
        )
