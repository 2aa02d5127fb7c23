"""`fla data collect BENCHMARK`: record what a policy does in a simulator, failures included."""

import argparse
from pathlib import Path

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="isaaclab, planar, aloha_sim, ...")
    parser.add_argument("--task", metavar="NAME", help="which of the simulator's tasks (Isaac-Lift-Cube-Franka-v0)")
    parser.add_argument(
        "--policy", default="random", help="random (default), expert, ws://HOST:PORT, or module:function"
    )
    parser.add_argument("--embodiment", metavar="NAME", help="default: the simulator's own")
    parser.add_argument("--episodes", type=int, default=10, help="to record (default 10)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the dataset")
    parser.add_argument("--instruction", metavar="TEXT", help="what the robot is told, in the dataset")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default 0)")
    parser.add_argument("--max-steps", type=int, metavar="N", help="end episodes after N actions")
    parser.add_argument("--video", action="store_true", help="store camera frames as video instead of images")
    parser.add_argument("--format", default="lerobot", help="dataset format (default lerobot)")
    add_options(parser, "simulator")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.evaluation.collection import collect

    options = parse_options(arguments.option)
    if arguments.task is not None:
        options["task"] = arguments.task
    made = collect(
        registry,
        benchmark=arguments.benchmark,
        policy=arguments.policy,
        embodiment=arguments.embodiment,
        episodes=arguments.episodes,
        out=arguments.out,
        dataset_format=arguments.format,
        video=arguments.video,
        seed=arguments.seed,
        max_steps=arguments.max_steps,
        instruction=arguments.instruction,
        options=options,
    )
    print(f"collected {made.episodes} episodes ({made.rows} rows, {made.solved} solved) in {made.path}")


COMMAND = Command(
    name="collect", help="record what a policy does in a simulator, failures included", configure=configure, run=run
)
