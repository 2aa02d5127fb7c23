"""Success in a simulator, measured while training goes on; names that make no sense are refused before it begins."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.policy import checkpoint
from fla_sdk.training.trainer import Trainer


@pytest.mark.slow
def test_success_is_among_the_metrics_and_changes_no_number(
    small_run: Callable[..., Any], registry: Any, tmp_path: Any
) -> None:
    changes = {"steps": 2, "save_every": 2, "log_every": 3}
    evaluated = small_run(
        tmp_path / "run", **changes, evaluate=("planar/planar2",), evaluate_every=2, evaluate_episodes=2
    )
    path = Trainer(evaluated, plugins=registry).fit().checkpoint
    lines = [json.loads(line) for line in (evaluated.out / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["success/planar/planar2"] for line in lines if "success/planar/planar2" in line}
    assert set(found) == {2}
    assert set(found.values()) <= {0.0, 0.5, 1.0}
    plain = Trainer(small_run(tmp_path / "plain", **changes), plugins=registry).fit().checkpoint
    one, other = checkpoint.read_params(path), checkpoint.read_params(plain)
    assert all((one[name] == other[name]).all() for name in other)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("planer", UnknownNameError, "unknown benchmark 'planer'; did you mean 'planar'"),
        ("planar/aloha", ConfigError, r"'planar/aloha' is about a robot that is not trained here \(planar2, planar3\)"),
        ("aloha_sim", ConfigError, "'aloha_sim' has none of the robots that are trained here .* it has aloha_sim"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_once(
    small_run: Callable[..., Any], registry: Any, tmp_path: Any, name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Trainer(small_run(tmp_path / "run", evaluate=(name,)), plugins=registry)
