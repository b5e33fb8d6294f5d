"""A headless Chromium, driven by the DevTools protocol over a pipe. `Browser.found()` says whether there is one."""
import base64
import json
import os
import select
import shutil
import subprocess
import time


class Browser:
    @staticmethod
    def found():
        return next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)

    def __init__(self, place):
        to_it, ours_out = os.pipe()
        ours_in, from_it = os.pipe()

        def take_descriptors():
            high = os.dup(to_it), os.dup(from_it)  # 3 and 4 may be among them
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [self.found(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
             "--user-data-dir=" + os.path.join(place, "profile"), "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            env=dict(os.environ, HOME=place), preexec_fn=take_descriptors)
        os.close(to_it)
        os.close(from_it)
        self.out, self.inp, self.said, self.next = ours_out, ours_in, b"", 0
        self.errors = []  # what the page's scripts and its policy complain of
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def read(self, end):
        while b"\0" not in self.said:
            if not select.select([self.inp], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser says nothing")
            more = os.read(self.inp, 1 << 16)
            if not more:
                raise EOFError("the browser is gone")
            self.said += more
        message, self.said = self.said.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, timeout=90, **params):
        self.next += 1
        request = {"id": self.next, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            answer = self.read(end)
            if answer.get("id") == self.next:
                if "error" in answer:
                    raise RuntimeError("%s: %s" % (method, answer["error"]))
                return answer["result"]
            self.note(answer)

    def note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests = getattr(self, "requests", []) + [params["request"]["url"]]

    def show(self, url, width=1280, height=800, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=url)

    def run(self, script):
        """The value of an expression; promises are awaited."""
        got = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in got:
            raise RuntimeError(json.dumps(got["exceptionDetails"])[:1000])
        return got["result"].get("value")

    def key(self, key, text=""):
        code = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}.get(key, 0)
        more = {"text": text, "unmodifiedText": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def picture(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.inp)
