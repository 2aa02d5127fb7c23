"""`fla data split DIR`: a dataset to train on and one that is held out; or some of its episodes."""

import argparse
import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np

from fla_sdk.cli.data.formats import add_folder, cannot, format_of
from fla_sdk.data.splits import By, held_out, parse_episodes
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--hold-out", type=float, metavar="SHARE", help="such as 0.1: into OUT/train and OUT/held_out")
    which.add_argument("--episodes", metavar="LIST", help="such as 0:40,45: only these, into OUT")
    parser.add_argument("--by", choices=get_args(By), default="episode", help="hold out whole tasks (default episode)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="new folder")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    path, out = arguments.path, arguments.out.absolute()
    storage = format_of(registry, path)
    if storage.copy is None:
        raise cannot(storage, "split")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder; give another one, or remove it first")
    dataset = storage.open(path)
    if arguments.episodes is not None:
        chosen = parse_episodes(arguments.episodes, len(dataset.episode_bounds))
        print(f"{storage.copy(path, out, chosen.tolist())} episodes in {out}")
        return
    tasks = [dataset.task(int(first)) for first in dataset.episode_bounds[:, 0]]
    held = held_out(dataset.episode_bounds, tasks, arguments.hold_out, arguments.by, arguments.seed)
    if not held.any():
        raise ConfigError("--hold-out 0 holds nothing out; give a share such as 0.1")
    staging = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for name, side in (("train", ~held), ("held_out", held)):
            storage.copy(path, staging / name, np.flatnonzero(side).tolist())
        if out.exists():
            out.rmdir()
        os.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(f"{np.sum(~held)} episodes in {out / 'train'}, {np.sum(held)} in {out / 'held_out'}")


COMMAND = Command(name="split", help="hold out a share of the episodes, or take some", configure=configure, run=run)
