"""A run's frame cache: chosen, built, and put between the datasets and everything that reads them."""

import copy
from pathlib import Path

import attrs

from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.data.frame_plan import plan_cache
from fla_sdk.data.mixture import Part, shares
from fla_sdk.policy import checkpoint
from fla_sdk.training import demand, hosts
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.preparation import Preparation


def cache_frames(config: TrainConfig, prepared: Preparation, *, newest: Path | None) -> tuple[TrainConfig, Preparation]:
    """The preparation with its frames from a cache where the config wants one, and the config that says so.

    A run that resumes from the checkpoint `newest` goes on as it was: JPEG changes images a little, and how fast this
    machine is today must not. Prints the choice, which is that of the first process, and builds what is missing.
    """
    if newest is not None and config.frame_cache == "auto":
        config = attrs.evolve(config, frame_cache=checkpoint.read_manifest(newest).train.get("frame_cache", "never"))
    if config.frame_cache == "never":
        return config, prepared
    cached = [_cached(part, prepared.spec.image_size, config.frame_quality) for part in prepared.parts]
    if not any(frames.cameras for frames in cached):
        return config, prepared
    weights = shares(prepared.parts, sampling=config.sampling, temperature=config.temperature)
    plan = plan_cache(
        [(frames, share) for frames, share in zip(cached, weights, strict=True) if frames.cameras],
        choice=config.frame_cache,
        samples=config.steps * config.batch_size,
        demand=lambda: (
            config.samples_per_second
            or demand.samples_per_second(prepared.family, prepared.model_config, freeze=config.freeze)
        ),
        threads=config.loader_threads,
    )
    if hosts.is_first():
        print(plan.line, flush=True)
    # Processes measure different speeds, but must all see the same pixels.
    if not hosts.any_of(plan.use and hosts.is_first()):
        return attrs.evolve(config, frame_cache="never"), prepared
    for frames in cached:
        frames.build()
    parts = tuple(_reading(part, frames) for part, frames in zip(prepared.parts, cached, strict=True))
    return attrs.evolve(config, frame_cache="always"), attrs.evolve(prepared, parts=parts)


def _cached(part: Part, size: tuple[int, int], quality: int | None) -> CachedFrames:
    one = part.demonstrations
    return CachedFrames(one.dataset, tuple(one.camera_keys.values()), size=size, quality=quality, episodes=one.episodes)


def _reading(part: Part, frames: CachedFrames) -> Part:
    demonstrations = copy.copy(part.demonstrations)
    demonstrations.dataset = frames
    return attrs.evolve(part, demonstrations=demonstrations)
