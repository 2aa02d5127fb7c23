"""A policy server as a process of its own, for evaluation and the demo."""

import re
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fla_sdk.errors import ConnectionLost

READY = re.compile(r"serving on (ws://\S+)")


@contextmanager
def server_process(
    checkpoint: Path | str,
    *,
    arguments: Sequence[str] = (),
    start_limit_s: float = 300.0,
    stop_limit_s: float = 20.0,
) -> Generator[str, None, None]:
    """Run `fla serve CHECKPOINT`, with further `arguments`, on a free port and yield its URL; stopped at the end.

    Raises `ConnectionLost` with what the server printed when it ends, or is not ready after `start_limit_s` seconds.
    """
    command = [sys.executable, "-m", "fla_sdk.cli", "serve", str(checkpoint), "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    url: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if match := READY.search(line):
                url.append(match[1])
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(start_limit_s) or not url:
            said = "".join(lines[-15:]).strip() or "nothing"
            raise ConnectionLost(f"the policy server for {checkpoint} did not start; it said: {said}")
        yield url[0]
    finally:
        process.terminate()
        try:
            process.wait(stop_limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(stop_limit_s)
        reader.join(stop_limit_s)
        if process.stdout is not None:
            process.stdout.close()
