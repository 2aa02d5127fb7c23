"""`fla eval BENCHMARK`: success of a policy, with its uncertainty."""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

import attrs

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", help="planar, aloha_sim, ... (plugins add more)")
    policy = parser.add_mutually_exclusive_group(required=True)
    policy.add_argument("--checkpoint", type=Path, metavar="DIR", help="checkpoint to serve for the evaluation")
    policy.add_argument("--server", metavar="URL", help="running policy server, ws://HOST:PORT (token: FLA_TOKEN)")
    parser.add_argument(
        "--embodiment", action="append", metavar="NAME", help="repeatable; default: all of the benchmark"
    )
    parser.add_argument("--episodes", type=int, default=50, help="per embodiment (default 50)")
    parser.add_argument("--seed", type=int, help="of the first episode")
    parser.add_argument("--replan", type=int, help="actions executed per chunk (default: the benchmark's)")
    parser.add_argument("--max-steps", type=int, help="control steps until an episode fails (default: the benchmark's)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="parallel episodes (default: cores)")
    parser.add_argument("--videos", type=int, default=4, help="episodes to animate per embodiment (default 4)")
    parser.add_argument("--out", type=Path, default=Path("out/eval"), help="folder for results.json and videos")
    add_options(parser, "benchmark")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.evaluation.benchmark import FIRST_SEED, Evaluation, check, evaluate, write_results
    from fla_sdk.evaluation.server_process import server_process
    from fla_sdk.policy import checkpoint

    names = arguments.embodiment or registry.benchmark(arguments.benchmark).embodiments
    if arguments.server is None and not arguments.embodiment and arguments.checkpoint.is_dir():
        trained = checkpoint.trained_embodiments(arguments.checkpoint)
        names = [name for name in names if trained is None or name in trained]
        if not names:
            raise ConfigError(
                f"{arguments.checkpoint} was trained for {', '.join(trained or ())}, none of which benchmark "
                f"{arguments.benchmark!r} has ({', '.join(registry.benchmark(arguments.benchmark).embodiments)})"
            )
    if not names:
        raise ConfigError(f"benchmark {arguments.benchmark!r} has no embodiment to be judged with")
    plans = [
        Evaluation(
            benchmark=arguments.benchmark,
            embodiment=name,
            url=arguments.server or "",
            token=os.environ.get("FLA_TOKEN") or None,
            episodes=arguments.episodes,
            seed=FIRST_SEED if arguments.seed is None else arguments.seed,
            replan=arguments.replan,
            max_steps=arguments.max_steps,
            options=parse_options(arguments.option),
            videos=arguments.videos,
            out=arguments.out,
            workers=arguments.workers,
        )
        for name in names
    ]
    for plan in plans:
        check(plan, registry)
    server = (
        nullcontext(arguments.server)
        if arguments.server
        else server_process(arguments.checkpoint, arguments=["--no-real-time-chunking"])
    )
    with server as url:
        results = [evaluate(attrs.evolve(plan, url=url), registry) for plan in plans]
    write_results(results, arguments.out / "results.json")
    for result in results:
        print(f"{result.benchmark} {result.embodiment}: {result.success}")
    print(f"results and videos: {arguments.out}")


COMMAND = Command(name="eval", help="run a benchmark and report success", configure=configure, run=run)
