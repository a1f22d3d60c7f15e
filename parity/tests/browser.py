"""Chromium without a window, driven over its own debugging pipe: no driver program, no package, no port.

Commands and events are those of the Chrome DevTools Protocol, JSON texts that end in a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = f"no browser to open a page in: install one of {', '.join(NAMES)} (apt-get install chromium)"
SECONDS = 30.0
# The browser finds the protocol's ends at its file descriptors 3 and 4. They are moved out of the way first, because
# one may be where the other has to go.
AS_3_AND_4 = """
import fcntl, os, sys
commands, events = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(events, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page in one browser; a context manager.

    ``errors`` are what the page wrote to its console as errors or warnings, and its uncaught exceptions. ``asked``
    are the addresses that it asked for, the page's own file left out.
    """

    def __init__(self, width: int = 1300, height: int = 900) -> None:
        binary = next((found for name in NAMES if (found := shutil.which(name))), None)
        if binary is None:
            raise FileNotFoundError(MISSING)
        self.errors: list[str] = []
        self.asked: list[str] = []
        self._number = 0
        self._bytes = b""
        self._profile = tempfile.mkdtemp(prefix="parity-browser-")
        read_commands, self._write = os.pipe()
        self._read, write_events = os.pipe()
        switches = (
            "--headless",
            "--remote-debugging-pipe",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={self._profile}",
            # Its sandbox refuses to run as root, which is who runs in most containers.
            *(("--no-sandbox", "--disable-dev-shm-usage") if os.geteuid() == 0 else ()),
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(read_commands), str(write_events), binary, *switches],
            pass_fds=(read_commands, write_events),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_events)
        self._session: str | None = None
        try:
            target = self.command("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.command(f"{domain}.enable")
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and forget its profile."""
        with contextlib.suppress(OSError, TimeoutError):
            self._session = None
            self.command("Browser.close", seconds=5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def command(self, method: str, seconds: float = SECONDS, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; RuntimeError with the browser's message where it refuses."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def size(self, width: int, height: int, phone: bool = False) -> None:
        """The size of the window, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    def scheme(self, name: str, media: str = "") -> None:
        """What the reader prefers, ``light`` or ``dark``, and the medium, ``print`` or the screen."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file and wait until it and its scripts have been read."""
        self.command("Page.navigate", url="about:blank")
        self.command("Page.navigate", url=path.absolute().as_uri() + fragment)
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(f"{script}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = SECONDS) -> None:
        """Until an expression in the page is true; TimeoutError with the expression where it stays false."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"still false after {seconds:.0f} s: {condition}; the page said {self.errors}")
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """What a reader sees of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str, code: int) -> None:
        """Press a key, by its name and its Windows code, where the focus is."""
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._bytes:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._read, 1 << 16)
            if not part:
                raise OSError("the browser ended")
            self._bytes += part
        text, _, self._bytes = self._bytes.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent" and params["type"] != "Document":
            self.asked.append(params["request"]["url"][:200])
