"""`fla continual`: learn tasks one after another, and see what is forgotten."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.errors import ConfigError, UnknownNameError


def configure(parser: argparse.ArgumentParser) -> None:
    from fla_plugins.continual.plan import METHODS

    parser.add_argument(
        "--task", action="append", required=True, metavar="NAME=DATA[:EMBODIMENT]", help="in the order of learning"
    )
    parser.add_argument("--embodiment", metavar="NAME", help="of tasks that name none")
    parser.add_argument("--recipe", required=True, help="a name of `fla recipes`, or a YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of the recipe"
    )
    methods = "; ".join(f"{name}: {what}" for name, what in METHODS.items())
    parser.add_argument("--method", default="finetune", help=f"against forgetting (default finetune). {methods}")
    parser.add_argument("--strength", type=float, default=1.0, help="of the method's penalty (default 1)")
    parser.add_argument(
        "--replay", type=float, metavar="SHARE", help="of earlier tasks in a batch; goes with every method"
    )
    parser.add_argument("--gamma", type=float, default=1.0, help="what each stage leaves of earlier importances")
    parser.add_argument("--samples", type=int, default=500, help="that importances are measured on (default 500)")
    parser.add_argument("--steps", type=int, required=True, help="of each stage; the learning rate is fitted to them")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument(
        "--hold-out", type=float, default=0.1, metavar="SHARE", help="of episodes, to measure losses on"
    )
    parser.add_argument("--skip-idle", action="store_true", help="leave out moments at which the robot stands still")
    parser.add_argument(
        "--benchmark", action="append", default=[], metavar="[TASK=]NAME", help="that success is measured by"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="[TASK.]NAME=VALUE",
        help="of the benchmark, value as JSON or text",
    )
    parser.add_argument("--episodes", type=int, default=50, help="of each benchmark (default 50)")
    parser.add_argument("--out", type=Path, required=True, help="folder; a sequence that is there is continued")


def run(arguments: argparse.Namespace, registry: fla.Registry) -> int:
    import json

    from fla_plugins.continual.report import table, to_json
    from fla_plugins.continual.sequence import Sequence

    plan = resolve(arguments, registry)
    found = Sequence(plan, registry).run()
    if found is None:
        print("interrupted; continue with the same command")
        return 130
    tree = to_json(plan, found)
    (plan.out / "results.json").write_text(json.dumps(tree, indent=2))
    print(table(plan, tree))
    print(plan.out / "results.json")
    return 0


def resolve(arguments: argparse.Namespace, registry: fla.Registry) -> Any:
    """The `Plan` that the command line describes."""
    from fla_plugins.continual.plan import Plan
    from fla_sdk.cli.options import parse_options
    from fla_sdk.cli.train import assignment, named
    from fla_sdk.config import override

    recipe = named(arguments.recipe, registry)
    if arguments.set:
        recipe = override(recipe, dict(map(assignment, arguments.set)), where="command line")
    tasks = [_task(text, arguments.embodiment) for text in arguments.task]
    tasks = _judged(tasks, arguments.benchmark, parse_options(arguments.option))
    shared = {
        name: getattr(arguments, name)
        for name in ("method", "strength", "replay", "gamma", "samples", "steps", "seeds", "hold_out")
    }
    return Plan(
        recipe=recipe,
        tasks=tasks,
        skip_idle=arguments.skip_idle,
        episodes=arguments.episodes,
        out=arguments.out,
        **shared,
    )


def _task(text: str, embodiment: str | None) -> Any:
    from fla_plugins.continual.plan import Task

    name, _, data = text.partition("=")
    place, colon, robot = data.rpartition(":")
    if colon and robot and "/" not in robot:  # `hf://...` has no robot behind its colon
        data, embodiment = place, robot
    if not name or not data:
        raise ConfigError(f"--task {text!r} must be NAME=DATA[:EMBODIMENT], such as red=./red:planar2")
    if embodiment is None:
        raise ConfigError(f"--task {text!r}: which robot made the data? add :EMBODIMENT, or give --embodiment for all")
    return Task(name=name, data=data, embodiment=embodiment)


def _judged(tasks: Sequence[Any], benchmarks: Sequence[str], options: Mapping[str, Any]) -> list[Any]:
    """Tasks with their benchmarks. What names no task is for all."""
    names = [task.name for task in tasks]
    chosen: dict[str, str] = {}
    for text in benchmarks:
        task, equals, benchmark = text.rpartition("=")
        if equals and task not in names:
            raise UnknownNameError("task", task, names)
        chosen |= dict.fromkeys([task] if equals else names, benchmark)
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in options.items():
        task, dot, option = key.rpartition(".")
        if dot and task not in names:
            raise UnknownNameError("task", task, names)
        for name in [task] if dot else names:
            given[name][option] = value
    return [attrs.evolve(task, benchmark=chosen.get(task.name), options=given[task.name]) for task in tasks]


COMMAND = fla.Command(
    name="continual", help="learn tasks one after another, and see what is forgotten", configure=configure, run=run
)
