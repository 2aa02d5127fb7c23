"""`Quarantine`: the damaged episodes that a run may leave out, and those that it did."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from fla_sdk.errors import DataError


class Quarantine:
    """A budget of episodes. Each is told once, when it is found, and listed in a file; beyond the budget, an error."""

    def __init__(self, budget: int = 0, *, file: Path | None = None, tell: Callable[[str], None] = print) -> None:
        """`file` gets one JSON line per episode: dataset, episode, reason."""
        self.budget = budget
        self.file = file
        self._tell = tell
        self._reasons: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()

    @property
    def episodes(self) -> dict[tuple[str, int], str]:
        """(dataset, episode) -> what is wrong with it."""
        with self._lock:
            return dict(self._reasons)

    def add(self, dataset: Path, episode: int, reason: str) -> None:
        """Leave out an episode. Raises `DataError` listing all when they are more than the budget."""
        with self._lock:
            if (str(dataset), episode) in self._reasons:
                return
            self._reasons[str(dataset), episode] = reason
            if len(self._reasons) > self.budget:
                listed = "\n".join(f"  {path}, episode {one}: {why}" for (path, one), why in self._reasons.items())
                raise DataError(
                    f"{len(self._reasons)} damaged episodes, {self.budget} may be left out:\n{listed}\n"
                    "Mend them (`fla data repair`), choose others (--episodes), or leave more out: "
                    f"--set skip_episodes={len(self._reasons)}"
                )
            self._tell(f"left out: {dataset}, episode {episode}: {reason} ({len(self._reasons)} of {self.budget})")
            if self.file is not None:
                line = json.dumps({"dataset": str(dataset), "episode": episode, "reason": reason})
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
