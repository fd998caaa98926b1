#!/usr/bin/env python3
"""page_test: the gateway's page in a real Chromium, driven over its debugging pipe as a person would, without a keyboard's luck. See rig.py.

With CMIF_SCREENSHOTS=FOLDER pictures of it are kept: 360 and 1400 pixels wide, light and dark."""

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time

from gateway_rig import NAMES, SAID, Gateway, Upstream
from rig import CANARY, ENV, WORK, cmif, end, good, promise, skip, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not CHROMIUM:
    skip("there is no Chromium here: install chromium")
PICTURES = os.environ.get("CMIF_SCREENSHOTS")


class Browser:
    """Chromium and one page in it; what it logs and asks for is kept."""

    def __init__(self):
        to_read, to = os.pipe()
        out, out_write = os.pipe()

        def pipes():  # it reads from 3, and writes to 4
            read, wrote = os.dup(to_read), os.dup(out_write)
            os.dup2(read, 3)
            os.dup2(wrote, 4)

        self.log = open(f"{WORK}/chromium.log", "ab")
        self.process = subprocess.Popen([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run",
                                         "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={WORK}/chromium", "about:blank"],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=pipes, close_fds=False, env={**ENV, "HOME": WORK})
        os.close(to_read)
        os.close(out_write)
        self.to, self.answers, self.number, self.session = to, queue.Queue(), 0, None
        self.errors, self.asked = [], []
        threading.Thread(target=self.listen, args=(out,), daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def listen(self, out):
        held = b""
        while piece := os.read(out, 1 << 16):
            *whole, held = (held + piece).split(b"\0")
            for message in map(json.loads, whole):
                method, about = message.get("method"), message.get("params", {})
                if "id" in message:
                    self.answers.put(message)
                elif method == "Network.requestWillBeSent":
                    self.asked.append(about["request"])
                elif method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning")):
                    self.errors.append(json.dumps(about)[:300])
                elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                    self.errors.append(f'{about["entry"]["text"]} {about["entry"].get("url", "")}')

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": self.session} if self.session else {})}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self.answers.get(timeout=60))["id"] != self.number:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression, seconds=20):
        end_ = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end_, f"it does not come true: {expression}; the page says: {self.js('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def dark(self, on):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && document.getElementById('state')?.textContent")

    def key(self, key, text="", modifiers=0, code=""):
        code = code or key
        number = {"Enter": 13, "Escape": 27, "Tab": 9, "n": 78}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=modifiers, windowsVirtualKeyCode=number, **({"text": text} if text and kind == "keyDown" else {}))

    def say(self, text):
        """Type it, and Enter."""
        self.call("Input.insertText", text=text)
        self.key("Enter", "\r")

    def picture(self, name):
        if PICTURES:
            with open(f"{PICTURES}/{name}.png", "wb") as file:
                file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def end(self):
        self.process.terminate()
        self.process.wait(20)


WORDS = "[...document.querySelectorAll('.turn:last-of-type {} .words')].pop().innerText"
IDLE = "document.getElementById('send').textContent === 'Send' && !document.querySelector('.waits')"

good("budget", "set", "--day", "200")
gateway = Gateway()
page = f"http://127.0.0.1:{gateway.port}/"
browser = Browser()


@promise
def it_loads_and_says_what_is_promised():
    browser.size(1400, 900)
    browser.open(page)
    browser.wait("document.getElementById('guarantee').textContent.includes('made-up')")
    assert browser.js("document.getElementById('policy').textContent") == "names"
    assert browser.js("document.getElementById('model').value") == "here" and browser.js("document.getElementById('state').textContent") == "ready"
    assert "of 200 spent today" in browser.js("document.getElementById('left').textContent")
    assert browser.js("document.activeElement.id") == "text", "the box has no focus"
    browser.picture("start-1400")


@promise
def a_conversation_is_typed_and_each_message_shows_what_left():
    Upstream.lie = "slow"
    browser.say("Dear " + SAID[:30])
    browser.wait("document.querySelectorAll('.went mark').length > 0")
    assert browser.js("!!document.querySelector('.waits')"), "what left is shown only behind the answer"
    Upstream.lie = None
    browser.wait(IDLE, 60)
    Upstream.bodies.clear()
    browser.say(SAID + " 🦓 übrigens")
    browser.wait(IDLE + " && document.querySelectorAll('.turn').length === 2")
    sent = json.loads(Upstream.bodies[0])["messages"]
    assert browser.js(WORDS.format(".went")) == sent[-1]["content"], "what is shown is not what left"
    assert browser.js(WORDS.format(".answer")) == f"You said: {SAID} 🦓 übrigens" and len(sent) == 3, sent
    assert not any(name in Upstream.bodies[0] for name in NAMES)
    marked = browser.js("[...document.querySelectorAll('.turn:last-of-type .said mark')].map(m => m.textContent)")
    for name in (NAMES[3], NAMES[4], NAMES[5]):
        assert name in marked, f"{name} is not marked: {marked}"
    assert "person" in browser.js("document.querySelectorAll('.went .note')[1].textContent") and "receipt 2" in browser.js("document.querySelectorAll('.answer .note')[1].textContent")


@promise
def a_mark_says_class_and_guarantee_to_mouse_and_keyboard():
    tip = "!document.getElementById('tip').hidden && document.getElementById('tip').innerText"
    at = browser.js("(() => { const m = [...document.querySelectorAll('.went mark')].find(n => n.ariaLabel.includes('email')), r = m.getBoundingClientRect(); return [r.x + 3, r.y + 3]; })()")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
    said = browser.wait(tip)
    assert said.startswith("email") and NAMES[3] in said and "drawn from nothing but their type and shape" in said, said
    browser.picture("tip-1400")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    browser.wait("document.getElementById('tip').hidden")
    browser.js("document.querySelector('.said mark').focus()")
    assert "person" in browser.wait(tip)
    browser.key("Escape")
    assert browser.js("document.getElementById('tip').hidden")


@promise
def it_fits_a_phone_and_a_desk_by_day_and_by_night():
    for width, height in ((1400, 900), (360, 740)):
        for dark in (False, True):
            browser.size(width, height)
            browser.dark(dark)
            assert browser.js("document.documentElement.scrollWidth") <= width, f"at {width} it scrolls sideways"
            wide = browser.js("[...document.querySelectorAll('header *, form *, .turn *')].filter(n => n.getClientRects().length && n.getBoundingClientRect().right > innerWidth + 1).map(n => n.id || n.className)")
            assert not wide, f"at {width} out of the window: {wide}"
            light = browser.js("Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3))")
            assert (light < 60) == dark, f"dark {dark}: {light}"
            browser.picture(f"{'dark' if dark else 'light'}-{width}")
    browser.dark(False)
    browser.size(1400, 900)


@promise
def an_error_is_told_and_the_words_come_back_to_the_box():
    Upstream.lie = 500
    browser.say("please try")
    browser.wait("!!document.querySelector('.wrong')")
    assert browser.js("document.getElementById('text').value") == "please try"
    Upstream.lie = None
    browser.errors[:] = [error for error in browser.errors if "502" not in error]  # that is how browsers log a status
    browser.key("Enter", "\r")
    browser.wait(IDLE + " && document.querySelectorAll('.turn').length === 4")
    assert browser.js(WORDS.format(".answer")) == "You said: please try"


@promise
def escape_stops_and_alt_n_begins_anew():
    Upstream.lie = "slow"
    browser.say("wait " * 30)
    browser.wait("document.querySelector('.waits .words').innerText.length > 3")
    browser.key("Escape")
    browser.wait("[...document.querySelectorAll('.answer .note')].some(n => n.textContent.startsWith('Stopped'))")
    Upstream.lie = None
    browser.key("n", modifiers=1, code="KeyN")
    browser.wait("document.querySelectorAll('.turn').length === 0 && !document.getElementById('intro').hidden")
    browser.js("document.getElementById('text').value = ''")


@promise
def a_spent_budget_is_told():
    good("budget", "set", "--day", "0")
    browser.open(page)
    browser.wait("document.getElementById('left').textContent.includes('of 0')")
    good("budget", "set", "--day", "200")


@promise
def text_is_never_html():
    browser.open(page)
    browser.say('<img src=x onerror="document.title=1"><b>bold</b> ' + SAID)
    browser.wait(IDLE + " && document.querySelectorAll('.turn').length === 1")
    assert browser.js("document.title") == "CMIF" and not browser.js("document.querySelectorAll('.words img, .words b').length")
    assert "<b>bold</b>" in browser.js(WORDS.format(".answer"))


@promise
def receipts_are_given_to_programs_of_this_machine():
    status, headers, text = gateway.ask("/receipts")
    assert status == 200 and "attachment" in headers["Content-Disposition"] and len(text.splitlines()) >= 2
    assert cmif("audit", write("receipts.jsonl", text)).returncode == 0
    assert gateway.ask("/receipts", Host="evil.example")[0] == 403


@promise
def with_keys_the_page_asks_for_one():
    import hashlib
    keyed = Gateway("--keys", write("keys", f"anna sha256:{hashlib.sha256(CANARY.encode()).hexdigest()}\n"), env={**ENV, "XDG_DATA_HOME": f"{WORK}/keyed"})
    browser.open(f"http://127.0.0.1:{keyed.port}/")
    browser.wait("document.activeElement.id === 'key'")
    browser.picture("key-1400")
    browser.say(CANARY)
    browser.wait("document.getElementById('key-form').hidden && document.activeElement.id === 'text'")
    browser.say(SAID)
    browser.wait(IDLE + " && document.querySelectorAll('.turn .went mark').length > 3")
    assert CANARY not in browser.js("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert keyed.ask("/receipts", Authorization=f"Bearer {CANARY}")[0] == 404 and keyed.ask("/status")[0] == 401
    browser.errors[:] = [error for error in browser.errors if "401" not in error]
    assert keyed.end() == 0


@promise
def what_left_is_told_only_to_who_asks():
    body = {"model": "here", "messages": [{"role": "user", "content": SAID}]}
    assert "left" not in json.loads(gateway.ask("/v1/chat/completions", body)[2])["cmif"]
    left = json.loads(gateway.ask("/v1/chat/completions", body, X_CMIF_Show="left")[2])["cmif"]["left"]
    assert [one["role"] for one in left] == ["user"] and left[0]["text"] == json.loads(Upstream.bodies[0])["messages"][0]["content"]
    said, text = SAID.encode(), left[0]["text"].encode()
    for out_from, out_size, name, action, at, size in left[0]["spans"]:
        assert action in ("surrogate", "channel") and text[out_from:out_from + out_size] != said[at:at + size], name
    assert any(said[s[4]:s[4] + s[5]].decode() == NAMES[3] for s in left[0]["spans"])


@promise
def no_request_left_the_origin_and_nothing_was_an_error():
    strange = [r["url"] for r in browser.asked if not r["url"].startswith(("http://127.0.0.1:", "about:"))]
    assert not strange and len(browser.asked) > 10, strange
    assert not browser.errors, browser.errors
    policy = gateway.ask("/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@promise
def no_name_is_in_logs_or_books():
    gateway.end()
    browser.end()
    for folder in ("data", "keyed", "state", "gateway.log"):
        for path, _, files in os.walk(f"{WORK}/{folder}") if os.path.isdir(f"{WORK}/{folder}") else [(WORK, [], [folder])]:
            for file in files if os.path.exists(path) else []:
                if os.path.exists(os.path.join(path, file)):
                    with open(os.path.join(path, file), "rb") as opened:
                        content = opened.read()
                    assert not any(name.encode() in content for name in NAMES + [CANARY]), os.path.join(path, file)


end()
