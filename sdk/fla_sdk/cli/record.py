"""`fla record BENCHMARK`: record demonstrations of a scripted expert."""

import argparse
from pathlib import Path

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="a benchmark with an expert: planar, aloha_sim, ...")
    parser.add_argument("--embodiment", metavar="NAME", help="default: the benchmark's first")
    parser.add_argument("--episodes", type=int, default=50, help="successful ones to record (default 50)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the dataset")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default 0)")
    parser.add_argument("--video", action="store_true", help="store camera frames as video instead of images")
    parser.add_argument("--resume", action="store_true", help="go on with the dataset in DIR until it has --episodes")
    parser.add_argument("--format", default="lerobot", help="dataset format (default lerobot)")
    add_options(parser, "benchmark")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.evaluation.recording import record

    made = record(
        registry,
        benchmark=arguments.benchmark,
        embodiment=arguments.embodiment,
        episodes=arguments.episodes,
        out=arguments.out,
        dataset_format=arguments.format,
        video=arguments.video,
        seed=arguments.seed,
        resume=arguments.resume,
        options=parse_options(arguments.option),
    )
    print(f"recorded {made.episodes} episodes ({made.rows} rows, {made.attempts} attempts) in {made.path}")


COMMAND = Command(name="record", help="record demonstrations of a scripted expert", configure=configure, run=run)
