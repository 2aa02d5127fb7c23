"""What `fla continual` prints and writes down."""

from typing import Any

import attrs
import numpy as np

from fla_plugins.continual.plan import Plan
from fla_plugins.continual.scores import scores
from fla_plugins.continual.sequence import Scored, matrix

KINDS = ("loss", "success")


def to_json(plan: Plan, found: list[list[Scored]]) -> dict[str, Any]:
    """All seeds, and for each kind of score the mean matrix and measures with their standard deviation over seeds."""
    tree: dict[str, Any] = {"method": plan.method, "tasks": [task.name for task in plan.tasks], "seeds": found}
    for kind in KINDS:
        matrices = [one for stages in found if (one := matrix(stages, plan.tasks, kind)) is not None]
        if len(matrices) < len(found):
            continue
        measures = [attrs.asdict(scores(one)) for one in matrices]
        sign = -1 if kind == "loss" else 1
        tree[kind] = {
            "matrix": [[_known(sign * one) for one in row] for row in np.mean(matrices, axis=0)],
            **{
                name: _spread([one[name] for one in measures], sign if name != "backward" else 1)
                for name in measures[0]
            },
        }
    return tree


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)


def _spread(values: list[float], sign: int) -> dict[str, float]:
    return {"mean": sign * float(np.mean(values)), "std": float(np.std(values, ddof=len(values) > 1))}


def table(plan: Plan, tree: dict[str, Any]) -> str:
    """For a terminal."""
    names = [task.name for task in plan.tasks]
    width = max(10, *(len(name) + 2 for name in names))
    lines: list[str] = []
    for kind in KINDS:
        if kind not in tree:
            continue
        found = tree[kind]
        lines += ["", f"{kind} of each task after each stage ({plan.method}, mean of {plan.seeds} seeds)"]
        lines.append(" " * (width + 2) + "".join(name.rjust(width) for name in names))
        for name, row in zip(names, found["matrix"], strict=True):
            cells = ("-" if value is None else _number(value, kind) for value in row)
            lines.append(f"  {name.ljust(width)}" + "".join(cell.rjust(width) for cell in cells))
        for field, meaning in _MEANINGS.items():
            mean, std = found[field]["mean"], found[field]["std"]
            lines.append(f"  {meaning:28}{_number(mean, kind)} +- {_number(std, kind)}")
    return "\n".join(lines).strip("\n")


_MEANINGS = {
    "forward": "forward transfer",
    "backward": "negative backward transfer",
    "area": "area under the curve",
    "final": "all tasks at the end",
}


def _number(value: float, kind: str) -> str:
    return f"{value:.4f}" if kind == "loss" else f"{value:.0%}"
