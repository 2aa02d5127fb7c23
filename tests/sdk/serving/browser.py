"""A real browser without a window, driven over Chromium's DevTools protocol."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT_S = 120


class Tab:
    """One page. What it writes to its console is in `console`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._calls = connection, 0
        self.console: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until it is true."""
        until_s = time.monotonic() + LIMIT_S
        while not self.evaluate(expression):
            assert time.monotonic() < until_s, (expression, self.evaluate("document.body?.innerText"), self.console)
            time.sleep(0.05)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(LIMIT_S))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.console.append(json.dumps(message["params"]))


@contextmanager
def browser(folder: Path) -> Generator[Tab, None, None]:
    """`folder` is for its profile."""
    assert CHROMIUM is not None
    options = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions"
    command = [CHROMIUM, *options.split(), "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s, told = time.monotonic() + LIMIT_S, folder / "DevToolsActivePort"
        while not (told.is_file() and "\n" in told.read_text()):
            assert time.monotonic() < until_s
            assert process.poll() is None
            time.sleep(0.05)
        port = told.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LIMIT_S) as response:
            page = next(one for one in json.load(response) if one["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], compression=None, max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LIMIT_S)
