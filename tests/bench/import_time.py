"""How long `import fla_sdk` and the client's import take, over a bare interpreter.

    .venv/bin/python tests/bench/import_time.py

Wall time is what a user waits; CPU time (user and system) says the same on a machine that is busy with other things.
"""

import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

RUNS = 25
CASES = {
    "bare interpreter": "pass",
    "import fla_sdk": "import fla_sdk",
    "from fla_sdk.client import PolicyClient": "from fla_sdk.client import PolicyClient",
    "fla_sdk.Embodiment": "import fla_sdk; fla_sdk.Embodiment",
    "fla_sdk.load_plugins()": "import fla_sdk; fla_sdk.load_plugins()",
}


class Cost(NamedTuple):
    """Milliseconds of one process."""

    wall: float
    cpu: float


def cost(code: str) -> Cost:
    """What one interpreter that runs `code` takes. It may keep bytecode, as an ordinary one does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = status
    assert status == 0, code
    return Cost(wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)


def main() -> None:
    """Print the medians of each case, and how far they lie above the bare interpreter."""
    costs: dict[str, list[Cost]] = {name: [cost(code)][:0] for name, code in CASES.items()}  # the first run is dropped
    for _ in range(RUNS):  # interleaved, so that a busy moment hits all cases alike
        for name, code in CASES.items():
            costs[name].append(cost(code))
    medians = {name: Cost(*map(statistics.median, zip(*found, strict=True))) for name, found in costs.items()}
    bare = medians["bare interpreter"]
    for name, (wall, cpu) in medians.items():
        print(
            f"{name:40} wall {wall:7.1f} ms (+{wall - bare.wall:6.1f}, x{wall / bare.wall:5.2f})   "
            f"cpu {cpu:6.1f} ms (+{cpu - bare.cpu:6.1f}, x{cpu / bare.cpu:5.2f})"
        )


if __name__ == "__main__":
    main()
