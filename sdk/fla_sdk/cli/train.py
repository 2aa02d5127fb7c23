"""`fla train RECIPE`: train a model on one or several datasets."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command
from fla_sdk.training.config import TrainConfig, from_yaml


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a name of `fla recipes`, or a YAML file")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR",
        help="dataset; repeat for a mixture. Without --embodiment, for the recipe's own robots, in their order",
    )
    parser.add_argument(
        "--embodiment", action="append", default=[], metavar="NAME", help="robot of each --data, in the same order"
    )
    parser.add_argument("--weight", action="append", type=float, default=[], metavar="W", help="weight of each --data")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="what the robot of each --data is told, with {task}",
    )
    parser.add_argument(
        "--episodes", action="append", default=[], metavar="LIST", help="episodes of each --data, such as 0:40,45"
    )
    parser.add_argument("--hold-out", type=float, default=0.0, metavar="SHARE", help="of the episodes, not trained on")
    parser.add_argument(
        "--evaluate",
        action="append",
        metavar="BENCHMARK[/ROBOT]",
        help="run this benchmark at each checkpoint, or every so many steps (--set evaluate_every=N)",
    )
    parser.add_argument("--skip-idle", action="store_true", help="leave out moments at which the robot stands still")
    parser.add_argument(
        "--stats",
        action="append",
        default=[],
        metavar="EMBODIMENT=PLACE[#NAME]",
        help="use statistics of a checkpoint or norm_stats.json, not of the data: droid=gs://BUCKET/pi05_droid#droid",
    )
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, help="optimizer steps; the learning rate still decays as the recipe says")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--fsdp-devices", type=int, help="devices that share parameters and optimizer state")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--init",
        "--init-from",
        metavar="WEIGHTS",
        help="to start from: a checkpoint or file, gs://..., hf://..., or 'scratch'",
    )
    parser.add_argument(
        "--init-also", action="append", metavar="WEIGHTS", help="for parameters that --init lacks; may be repeated"
    )
    parser.add_argument(
        "--init-fresh",
        action="append",
        metavar="GROUP",
        help="parameter group that starts anew where the weights lack it, such as lora, or a pattern of paths",
    )
    parser.add_argument(
        "--init-resize", action="store_true", default=None, help="cut or pad the weights to the model's action width"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any other field, dotted, value as YAML: optimizer.peak_lr=1e-4, model_options.horizon=20",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument(
        "--accept-changes", action="store_true", help="with --resume: go on although settings, data or plugins changed"
    )
    existing.add_argument("--overwrite", action="store_true", help="delete the run in --out first")
    parser.add_argument("--dry-run", action="store_true", help="check everything, show what would be trained")


def run(arguments: argparse.Namespace, registry: Registry) -> int:
    """Exit status 0 when finished; 130 after Ctrl-C and 143 after SIGTERM, with a checkpoint to go on from."""
    from fla_sdk.training.config import to_yaml
    from fla_sdk.training.plan import memory_here
    from fla_sdk.training.preview import preview
    from fla_sdk.training.trainer import Trainer

    trainer = Trainer(resolve(arguments, registry), plugins=registry)
    for remark in trainer.prepared.remarks:
        print(f"fla: warning: {remark}", file=sys.stderr)
    if arguments.dry_run:
        print(to_yaml(trainer.config))
        for line in preview(trainer.config, trainer.prepared):
            print(f"# {line}".rstrip())  # so that all of it is YAML
        print(f"#\n# {memory_here(trainer.config, registry)}")
        return 0
    result = trainer.fit(
        resume=arguments.resume, overwrite=arguments.overwrite, accept_changes=arguments.accept_changes
    )
    if result.signal is not None:
        print(f"interrupted at step {result.step}; continue with the same command and --resume")
        return 128 + result.signal
    print(f"done: serve it with `fla serve {result.checkpoint}`")
    return 0


def resolve(arguments: argparse.Namespace, registry: Registry) -> TrainConfig:
    """The recipe with everything that the command line changes."""
    from fla_sdk.training.recipe import change, fill

    config = named(arguments.recipe, registry)
    changes: dict[str, Any] = dict(assignment(text) for text in arguments.set)
    for name in (
        "out",
        "steps",
        "batch_size",
        "fsdp_devices",
        "seed",
        "init",
        "init_also",
        "init_fresh",
        "init_resize",
        "evaluate",
    ):
        if (value := getattr(arguments, name)) is not None:
            changes[name] = value
    if arguments.stats:
        changes["stats"] = dict(_statistics(text) for text in arguments.stats)
    if arguments.data:
        shared = {"hold_out": arguments.hold_out, "skip_idle": arguments.skip_idle}
        changes["sources"] = fill(
            config.sources,
            arguments.data,
            {name: getattr(arguments, name) for name in ("embodiment", "weight", "prompt", "episodes")},
            name=arguments.recipe,
            **{name: value for name, value in shared.items() if value},
        )
    elif arguments.embodiment or arguments.weight or arguments.prompt or arguments.episodes or arguments.hold_out:
        raise ConfigError(
            "--embodiment, --weight, --prompt, --episodes and --hold-out belong to --data; give --data DIR as well"
        )
    return change(config, changes, where="command line")


def named(recipe: str, registry: Registry) -> TrainConfig:
    """The config of a recipe's name, or of a YAML file."""
    file = Path(recipe)
    if file.suffix not in (".yaml", ".yml"):
        return registry.recipe(recipe).config()
    if not file.is_file():
        raise ConfigError(f"there is no config file {file}")
    return from_yaml(file.read_text(), where=str(file))


def _statistics(text: str) -> tuple[str, str]:
    embodiment, _, place = text.partition("=")
    if not embodiment or not place:
        raise ConfigError(f"--stats {text!r} must be EMBODIMENT=PLACE, such as --stats droid=./pi05_droid#droid")
    return embodiment, place


def assignment(text: str) -> tuple[str, Any]:
    """`--set FIELD=VALUE` as field and value."""
    import yaml

    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {text!r} must be FIELD=VALUE, such as --set optimizer.peak_lr=1e-4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not YAML: {error}") from error
    if isinstance(parsed, str):  # YAML 1.1 reads 1e-4 as text
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    return field, parsed


COMMAND = Command(name="train", help="train a model on recorded demonstrations", configure=configure, run=run)
