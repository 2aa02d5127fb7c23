"""Changing many files of a folder so that a kill in the middle can be finished: written aside, listed, then renamed."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs

from fla_plugins.lerobot.commit import Commits

FOLDER = Path(".repair")
PLAN = FOLDER / "plan.json"
NEW = FOLDER / "new"
KEPT = Path("damaged")
"""Where files go that are replaced or cannot be used: `damaged/<n>/<path>`, a new `n` for every repair."""


@attrs.frozen(kw_only=True)
class Changes:
    """New files lie in `NEW`, by the path that they will have. Files to keep aside move to `aside`."""

    root: Path
    aside: Path
    commits: Commits = attrs.field(factory=Commits)

    def new(self, path: Path) -> Path:
        """Where to write the file that `path` will be."""
        staged = self.root / NEW / path.relative_to(self.root)
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def apply(self, leaving: Sequence[Path]) -> None:
        """Move the files of `leaving`, and those that are replaced, aside; and the new ones into their places."""
        staged = [file for file in (self.root / NEW).rglob("*") if file.is_file()]
        places = {file: self.root / file.relative_to(self.root / NEW) for file in staged}
        going = dict.fromkeys([*leaving, *(place for place in places.values() if place.exists())])
        moves = [(path, self.aside / path.relative_to(self.root)) for path in going]
        moves += list(places.items())
        plan = [[str(path.relative_to(self.root)) for path in move] for move in moves]
        for file in staged:
            self.commits.flush_later(file)
        self.commits.sync(at_once=True)
        self.commits.write_text(self.root / PLAN, json.dumps(plan))
        self.commits.sync(at_once=True)
        finish(self.root)


def next_aside(root: Path) -> Path:
    """A folder below `damaged` that is not there yet."""
    number = 1
    while (root / KEPT / str(number)).exists():
        number += 1
    return root / KEPT / str(number)


def finish(root: Path) -> bool:
    """Complete changes that were listed before a kill; drop those that were not. Whether there were some."""
    plan = root / PLAN
    listed = plan.is_file()
    if listed:
        for source, target in json.loads(plan.read_text(encoding="utf-8")):
            # A file that is kept aside already has its new version in its place: that one must stay.
            done = Path(target).parts[0] == KEPT.name and (root / target).exists()
            if (root / source).exists() and not done:
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                os.replace(root / source, root / target)
        plan.unlink()
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    return listed
