"""Pictures for trackers: samples as the model sees them, and predicted actions against those that were shown."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec
from fla_sdk.embodiment import Embodiment
from fla_sdk.model import Batch

Picture = NDArray[np.uint8]

SAMPLES = 4
"""Samples of each robot that are shown."""

LABEL = 14
"""Pixels of a line with the names of the cameras."""


class Chunk(NamedTuple):
    """One chunk of actions, in the robot's units."""

    predicted: NDArray[np.floating]
    """`[T, A]`."""

    shown: NDArray[np.floating]
    """`[T, A]`: those of the demonstration."""


def samples(batch: Batch, origin: NDArray[np.int32], codecs: Sequence[Codec]) -> dict[str, Picture]:
    """`samples/<robot>`: its first samples of a batch below each other, its cameras beside each other.

    `origin` is the batch's of this process, and `codecs` are those of the mixture's parts.
    """
    images = {slot: _local(images) for slot, images in batch.inputs.images.items()}
    robots = np.array([codec.embodiment.name for codec in codecs])
    found: dict[str, Picture] = {}
    for codec in codecs:
        name = codec.embodiment.name
        rows = np.flatnonzero(robots[origin[:, 0]] == name)[:SAMPLES]
        cameras = {slot: camera for slot, camera in _cameras(codec).items() if slot in images}
        if len(rows) and cameras:
            columns = [_column(camera, images[slot][rows]) for slot, camera in cameras.items()]
            found[f"samples/{name}"] = np.hstack(columns)
    return found


def chunks(found: Mapping[str, Sequence[Chunk]], codecs: Mapping[str, Codec]) -> dict[str, Picture]:
    """`held_out/<robot>`: some of its chunks beside each other, one line per dimension."""
    return {f"held_out/{robot}": _plot(some, codecs[robot].embodiment) for robot, some in found.items() if some}


def _cameras(codec: Codec) -> dict[str, str]:
    """Slot -> camera, in the order of the model's sequence."""
    names = {camera.slot: camera.name for camera in codec.embodiment.cameras}
    return {slot: names[slot] for slot in codec.spec.image_slots if slot in names}


def _local(leaf: Any) -> NDArray[Any]:
    """The rows of a batch that this process has."""
    if not isinstance(leaf, jax.Array):
        return np.asarray(leaf)
    by_start = {shard.index[0].start or 0: shard.data for shard in leaf.addressable_shards}
    return np.concatenate([np.asarray(by_start[start]) for start in sorted(by_start)])


def _column(name: str, images: Picture) -> Picture:
    """A camera's name above its `images` `[N, H, W, 3]`."""
    from PIL import Image, ImageDraw

    label = Image.new("RGB", (images.shape[2], LABEL))
    ImageDraw.Draw(label).text((2, 1), name, fill="white")
    return np.vstack([np.asarray(label), *images])


def _plot(some: Sequence[Chunk], robot: Embodiment) -> Picture:
    from matplotlib.figure import Figure
    from PIL import Image

    chosen = [some[i] for i in np.unique(np.linspace(0, len(some) - 1, SAMPLES).round().astype(int))]
    units = [field.unit for field, _ in robot.action.slices() for _ in field.names]
    drawn = Figure(figsize=(10, 1.1 * robot.action.width + 0.5), dpi=80, layout="constrained")
    axes: Any = drawn.subplots(robot.action.width, 1, sharex=True, squeeze=False)[:, 0]
    for dimension, (axis, name, unit) in enumerate(zip(axes, robot.action.names, units, strict=True)):
        start = 0
        for chunk in chosen:
            steps = start + np.arange(len(chunk.shown))
            axis.plot(steps, chunk.shown[:, dimension], color="black", marker=".", label="shown")
            axis.plot(steps, chunk.predicted[:, dimension], color="tab:blue", marker=".", label="predicted")
            start += len(chunk.shown) + 3
        axis.set_ylabel(f"{name}\n{unit}", fontsize=8)
        axis.set_xticks([])
        axis.grid(alpha=0.3)
    axes[0].legend(*(one[:2] for one in axes[0].get_legend_handles_labels()), fontsize=8, ncols=2, loc="upper right")
    axes[-1].set_xlabel(f"{len(chosen)} chunks of samples that are not trained on")
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    with Image.open(buffer) as picture:
        return np.asarray(picture.convert("RGB"))
