"""What each stage of a sequence trains with."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from fla_plugins.continual.plan import METHODS, PENALTIES, Plan, Task
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.training.config import Optimizer, TrainConfig

RECIPE = TrainConfig(
    model="pi05/tiny", steps=1000, optimizer=Optimizer(warmup_steps=100, decay_steps=1000), init="base", seed=7
)
TASKS = tuple(Task(name=name, data=f"data/{name}", embodiment=robot) for name, robot in zip("abc", "xxy", strict=True))


def _plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {"recipe": RECIPE, "tasks": TASKS, "method": "finetune", "steps": 50, "out": Path("out")}
    return Plan(**(fields | changes))


@pytest.mark.parametrize("method", METHODS)
def test_stages_follow_each_other(method: str) -> None:
    plan = _plan(method=method)
    first = plan.config(0, 0, start=None)
    third = plan.config(2, 2, start=Path("before"))
    assert (first.init, first.seed, first.out) == ("base", 7, Path("out/seed0/1_a"))
    assert (third.init, third.seed, third.out) == (
        "base" if method == "lora-per-task" else "before",
        9,
        Path("out/seed2/3_c"),
    )
    assert (third.optimizer.warmup_steps, third.optimizer.decay_steps, third.steps) == (5, 50, 50)
    assert first.stats == {"x": "out/stats/x/norm_stats.json"}
    if method == "replay":
        shares = [(source.data, source.weight) for source in third.sources]
        assert shares == [("data/c", 0.9), ("data/a", 0.05), ("data/b", 0.05)]
        assert set(third.stats) == {"x", "y"}
    else:
        assert [source.data for source in third.sources] == ["data/c"]
    assert [penalty.name for penalty in third.regularizers] == ([method] if method in PENALTIES else [])
    assert [penalty.name for penalty in first.regularizers] == (["si"] if method == "si" else [])


def test_replay_goes_with_a_penalty() -> None:
    config = _plan(method="ewc", strength=3.0, replay=0.5).config(0, 1, start=Path("before"))
    assert [source.weight for source in config.sources] == [0.5, 0.5]
    assert [(penalty.name, penalty.strength) for penalty in config.regularizers] == [("ewc", 3.0)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": TASKS[:1]}, "needs two tasks of different names at least, got a"),
        ({"tasks": (TASKS[0], TASKS[0])}, "needs two tasks of different names at least, got a, a"),
        ({"tasks": (TASKS[0], attrs.evolve(TASKS[1], name="a/b"))}, "task 'a/b' names a folder"),
        ({"steps": 0}, "steps is 0, must be at least 1"),
        ({"replay": 1.0}, r"replay is 1\.0, must be a share"),
        ({"method": "replay", "replay": 0.0}, "is finetune"),
        ({"hold_out": 0.0}, r"hold_out is 0\.0"),
        ({"method": "lora-per-task", "recipe": attrs.evolve(RECIPE, init="scratch")}, "adapters need a base"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _plan(**changes)


def test_an_unknown_method() -> None:
    with pytest.raises(UnknownNameError, match="method against forgetting 'fintune'; did you mean 'finetune'"):
        _plan(method="fintune")
