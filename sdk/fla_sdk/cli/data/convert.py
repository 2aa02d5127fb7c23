"""`fla data convert SRC OUT`: copy a dataset of any format into LeRobot's."""

import argparse
from pathlib import Path

from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="dataset in any format: folder, file, mapping file (.yaml) or URI")
    parser.add_argument("out", type=Path, help="new folder")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--video", action="store_const", const=True, help="store camera frames as video (lossy, small)")
    kind.add_argument(
        "--images", action="store_const", const=False, dest="video", help="store them as PNG; default: as they are"
    )
    parser.add_argument("--episodes", metavar="LIST", help="such as 0:40,45; default all")
    parser.add_argument("--task", metavar="TEXT", help="what the robot was told, in place of what the data says")
    parser.add_argument(
        "--embodiment", metavar="NAME", help="copy this robot's state, action and cameras alone, under standard names"
    )
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN", help="do not copy it; may be repeated"
    )
    parser.add_argument("--workers", type=int, default=2, help="episodes to work on at once (default 2)")
    parser.add_argument("--resume", action="store_true", help="continue a conversion that was stopped")
    parser.add_argument("--skip-damaged", action="store_true", help="leave damaged episodes out, and list them")
    parser.add_argument("--format", default="lerobot", help="dataset format to write (default lerobot)")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.data.conversion import convert
    from fla_sdk.data.selection import Selection
    from fla_sdk.data.splits import parse_episodes
    from fla_sdk.training.preparation import open_dataset

    storage = registry.dataset_format(arguments.format)
    robot = None if arguments.embodiment is None else registry.embodiment(arguments.embodiment)
    dataset = open_dataset(arguments.source, registry)
    total = len(dataset.episode_bounds)
    selection = Selection(
        dataset,
        episodes=None if arguments.episodes is None else parse_episodes(arguments.episodes, total).tolist(),
        task=arguments.task,
        robot=robot,
        leave_out=arguments.leave_out,
        video=arguments.video,
    )
    made = convert(
        selection,
        arguments.out,
        storage,
        workers=arguments.workers,
        resume=arguments.resume,
        skip_damaged=arguments.skip_damaged,
    )
    print(f"converted {made.episodes} episodes ({made.rows} rows) to {made.path}")
    print(f"compared with {arguments.source}: {made.comparison.columns} columns and all tasks are equal")
    for camera, quality in made.comparison.frames.items():
        print(f"  {camera}: {quality}")
    for number, reason in made.skipped.items():
        print(f"  left out episode {number}: {reason}")


COMMAND = Command(name="convert", help="copy a dataset of any format into LeRobot's", configure=configure, run=run)
