"""Real input through the whole command line: record, read with the lerobot library, train, serve, evaluate."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("renderer")]

SMALL = (
    "model_options={action_dim: 14, horizon: 8, max_tokens: 64, "
    "vision: {width: 16, depth: 1, mlp_dim: 16, heads: 2, patch: 32}, "
    "language: {width: 16, depth: 1, mlp_dim: 16, heads: 2, kv_heads: 1, head_dim: 8}, "
    "expert: {width: 16, depth: 1, mlp_dim: 16, heads: 2, kv_heads: 1, head_dim: 8}}"
)

READ = """
import json, sys
from lerobot.datasets import LeRobotDataset
data = LeRobotDataset("local/set", root=sys.argv[1], video_backend="pyav", delta_timestamps={"action": [0.0, 0.02]})
first = data[0]
print(json.dumps({
    "rows": len(data), "episodes": data.meta.total_episodes, "fps": data.fps, "task": first["task"],
    "image": list(first["observation.images.top"].shape), "state": list(first["observation.state"].shape),
    "action": list(first["action"].shape),
}))
"""


@pytest.fixture
def fla(tmp_path: Path) -> Callable[..., str]:
    """Run a command of `fla` in a process of its own and return what it printed."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "fla_sdk.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run


def test_from_a_scripted_demonstration_to_an_honest_success_rate(fla: Callable[..., str], tmp_path: Path) -> None:
    assert "recorded 1 episodes" in fla("record", "aloha_sim", "--episodes", "1", "--video", "--out", "data")

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    read = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert read.returncode == 0, read.stderr[-2000:]
    seen = json.loads(read.stdout.splitlines()[-1])
    assert 100 < seen.pop("rows") <= 400
    assert seen == {
        "episodes": 1,
        "fps": 50,
        "task": seen["task"],
        "image": [3, 480, 640],
        "state": [14],
        "action": [2, 14],
    }
    assert "cube" in seen["task"]

    recipe = ("train", "pi05_tiny_aloha_sim", "--data", "data", "--embodiment", "aloha_sim", "--out", "run")
    assert "fla serve" in fla(*recipe, "--steps", "3", "--batch-size", "4", "--set", SMALL)

    # Three steps teach nothing; what counts is that a rate is reported, and that it is the true one.
    limits = ("--episodes", "2", "--max-steps", "40", "--videos", "1", "--workers", "2", "--out", "eval")
    said = fla("eval", "aloha_sim", "--checkpoint", "run", *limits)
    (result,) = json.loads((tmp_path / "eval" / "results.json").read_text())
    solved = sum(episode["success"] for episode in result["episodes"])
    assert [episode["steps"] for episode in result["episodes"]] == [40, 40] or solved
    assert result["success"]["rate"] == solved / 2
    assert f"aloha_sim aloha_sim: {solved / 2:.0%}" in said
    assert len(list((tmp_path / "eval").glob("*.gif"))) == 1
