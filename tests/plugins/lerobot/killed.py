"""Recorders that are killed, image and video in turn: between the steps of a commit, and at any line of their code."""

import subprocess
import sys
from pathlib import Path

import attrs

STEPS = ("data", "first video", "second video", "tasks", "episode table", "info", "statistics")
"""What a commit publishes, one after the other."""

LINES = 20

RECORDERS = """
import os, random, signal, sys
from pathlib import Path
import numpy as np
from fla_plugins.lerobot.writer import LeRobotWriter

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at_step(deadly):
    # Before so many files of the second commit are published.
    rename, renames = os.replace, 0
    def counted(*arguments):
        nonlocal renames
        if renames == deadly:
            die()
        renames += 1
        rename(*arguments)
    def before_commit(episode):
        if episode == 1:
            os.replace = counted
    return {"before_commit": before_commit}

def at_line(chance):
    # Counts the lines that the second episode takes, then dies at one of the two after it.
    lines, deadly = 0, None
    def count(frame, event, _):
        nonlocal lines
        if "fla_plugins/lerobot" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if lines == deadly:
            die()
        return count
    def before_episode(episode):
        nonlocal deadly
        if episode == 1:
            sys.settrace(count)
        if episode == 2:
            deadly = lines + int(chance * 2 * lines)
    return {"before_episode": before_episode}

def record(path, video, before_episode=lambda _: None, before_commit=lambda _: None):
    names = {"state_names": ("e", "t"), "action_names": ("e", "z"), "cameras": ("a", "b")}
    writer = LeRobotWriter(path, robot="arm", fps=20, video=video, **names)
    for episode in range(9):
        before_episode(episode)
        for row in range(4):
            image = np.full((32, 32, 3), 40 * row, np.uint8)
            observation = {"images/a": image, "images/b": image, "task": f"task {episode}"}
            observation["state"] = np.float32([episode, row])
            writer.add(observation, np.float32([-episode, 0]))
        before_commit(episode)
        writer.save_episode()
        path.with_suffix(".saved").write_text(str(episode + 1))

os.fsync = lambda _: None  # flushing helps against power cuts, not against kills, and takes a busy disk seconds
chances = random.Random(0)
root, steps, lines = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
recorders = [(f"step-{n}", True, at_step(n)) for n in range(steps)]
recorders += [(f"line-{n}", n % 2 == 1, at_line(chances.random())) for n in range(lines)]
for name, video, deadly in recorders:
    if os.fork() == 0:
        record(root / name, video, **deadly)
        os._exit(1)
    _, status = os.wait()
    assert os.WTERMSIG(status) == signal.SIGKILL, (name, status)
"""


@attrs.frozen
class Killed:
    """A recording, and how many episodes its recorder had saved."""

    path: Path
    saved: int
    video: bool


def kill_recorders(root: Path) -> dict[str, Killed]:
    """`step-<n>` before the n-th of `STEPS`, `line-<n>` somewhere; forked from one process, which imports once."""
    command = [sys.executable, "-W", "ignore", "-c", RECORDERS, str(root), str(len(STEPS)), str(LINES)]
    subprocess.run(command, timeout=300, check=True)
    saved = {path.stem: int(path.read_text()) for path in sorted(root.glob("*.saved"))}
    return {name: Killed(root / name, count, any((root / name).rglob("*.mp4"))) for name, count in saved.items()}
