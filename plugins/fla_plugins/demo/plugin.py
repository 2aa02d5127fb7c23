"""`fla demo`: the whole way once, on two simulated arms; and its recipe, `pi05_planar`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import fla_sdk as fla
from fla_sdk.training.config import Optimizer, TrainConfig


def recipe() -> TrainConfig:
    """Short chunks, and no wider than the wider arm: what there is to learn is to see."""
    return TrainConfig(
        model="pi05/tiny",
        model_options={"action_dim": 4, "horizon": 4},
        steps=2000,
        batch_size=64,
        optimizer=Optimizer(peak_lr=2e-3, end_lr=2e-5, warmup_steps=50, decay_steps=2000, weight_decay=1e-4),
        log_every=50,
        save_every=1000,
        loader_threads=1,
    )


@fla.hookimpl
def fla_recipes() -> Iterator[fla.Recipe]:
    yield fla.Recipe(name="pi05_planar", description="the demo: pi05/tiny from scratch on planar arms", config=recipe)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of everything it makes (emptied first)"
    )
    parser.add_argument("--demonstrations", type=int, default=2000, help="recorded per arm (default 2000)")
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
