"""`fla demo`: the whole way once, on two simulated arms."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import fla_sdk as fla


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of everything it makes (emptied first)")
    parser.add_argument("--demonstrations", type=int, default=800, help="recorded per arm (default 800)")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument("--episodes", type=int, default=100, help="evaluated per arm (default 100)")


def run(arguments: argparse.Namespace, registry: fla.Registry) -> None:
    from fla_plugins.demo.demo import Demo

    Demo(
        registry,
        out=arguments.out,
        demonstrations=arguments.demonstrations,
        steps=arguments.steps,
        episodes=arguments.episodes,
    ).run()


@fla.hookimpl
def fla_commands() -> Iterator[fla.Command]:
    yield fla.Command(
        name="demo",
        help="record, train, serve and drive two simulated arms with one policy, and write a report",
        configure=configure,
        run=run,
    )
