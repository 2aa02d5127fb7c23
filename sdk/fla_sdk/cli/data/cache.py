"""`fla data cache DATA`: decode camera frames once, at the size that a model sees."""

import argparse

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="dataset: folder or URI")
    parser.add_argument("--embodiment", metavar="NAME", required=True, help="robot that made it, whose cameras count")
    parser.add_argument("--size", default="224", metavar="PIXELS", help="of a side, or HEIGHTxWIDTH (default 224)")
    parser.add_argument("--quality", default="95", metavar="Q", help="of JPEG, 1 to 95 (default), or raw: plain bytes")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="frames to decode at once (default: one per processor)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="read all that is there, and make anew what is damaged")
    what.add_argument("--delete", action="store_true", help="remove it from the disk")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.data.demonstrations import camera_keys
    from fla_sdk.data.frame_cache import BUILD_THREADS, CachedFrames
    from fla_sdk.terminal import size as in_words
    from fla_sdk.training.preparation import open_dataset

    if arguments.threads is not None and arguments.threads < 1:
        raise ConfigError(f"--threads is {arguments.threads}, must be at least 1")
    threads = arguments.threads or BUILD_THREADS
    size, quality = _size(arguments.size), _quality(arguments.quality)
    embodiment = registry.embodiment(arguments.embodiment)
    dataset = open_dataset(arguments.data, registry)
    cameras = tuple(camera_keys(dataset, embodiment).values())
    frames = CachedFrames(dataset, cameras, size=size, quality=quality)
    if arguments.delete:
        taken = frames.nbytes()
        frames.delete()
        print(f"deleted {in_words(taken)} of frames")
        return
    if arguments.verify:
        damage = frames.verify(threads=threads)
        print("\n".join(damage) or "no damage found")
    frames.build(threads=threads)
    print(f"{len(dataset):,} frames of each camera ({frames.format}): {in_words(frames.nbytes())}")
    for camera, store in frames.stores.items():
        print(f"  {camera}: {store.folder}")


def _size(text: str) -> tuple[int, int]:
    height, times, width = text.partition("x")
    try:
        return int(height), int(width if times else height)
    except ValueError as error:
        raise ConfigError(f"--size {text!r} must be a number of pixels, or HEIGHTxWIDTH") from error


def _quality(text: str) -> int | None:
    if text == "raw":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"--quality {text!r} must be a number from 1 to 95, or raw") from error


COMMAND = Command(
    name="cache", help="decode camera frames once, at the size that a model sees", configure=configure, run=run
)
