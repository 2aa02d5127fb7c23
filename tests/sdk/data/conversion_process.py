"""A conversion that is killed: `python conversion_process.py SOURCE OUT EPISODES`.

It dies when it has so many episodes, and the numbers of the next one are there but not yet counted.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from fla_sdk.cli import main

source, out, episodes = sys.argv[1:]
rename = os.replace


def deadly(*arguments: Any) -> None:
    rename(*arguments)
    if len(list(Path(out, "data").rglob("*.parquet"))) > int(episodes):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    os.replace = deadly
    sys.exit(main(["data", "convert", source, out, "--resume", "--skip-damaged"]))
