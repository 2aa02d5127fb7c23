"""ALOHA's HDF5: a file per episode with `/observations/qpos`, `/action` and `/observations/images/<camera>`, 50 Hz.

Pictures are pixels, or JPEG padded with zeros to one length (`/compress_len` has the true ones, which decoders do not
need). As openpi does, JPEG is taken for what any viewer shows, and cameras with `depth` in their name are left out. The
files have the left arm first. They do not say what the task was.
"""

from collections.abc import Mapping as Entries

from fla_plugins.recordings.mapping import CameraImages, Column, Mapping
from fla_plugins.recordings.recording import Stream

ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
NAMES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ARM)
IMAGES = "observations/images/"
COLUMNS = {
    "observation.state": "observations/qpos",
    "action": "action",
    "observation.velocity": "observations/qvel",
    "observation.effort": "observations/effort",
    "base_action": "base_action",
}
"""What the SDK calls it -> where it lies."""


def is_aloha(streams: Entries[str, Stream]) -> bool:
    return {"observations/qpos", "action"} <= streams.keys()


def aloha_mapping(streams: Entries[str, Stream]) -> Mapping:
    """Of a file with these arrays."""
    columns = {name: key for name, key in COLUMNS.items() if key in streams}
    cameras = sorted(key.removeprefix(IMAGES) for key in streams if key.startswith(IMAGES) and "depth" not in key)
    return Mapping(
        format="hdf5",
        files="*.hdf5",
        fps=50,
        robot="aloha",
        columns={
            name: Column(keys=(key,), names=NAMES if streams[key].shape == (len(NAMES),) else None)
            for name, key in columns.items()
        },
        cameras={f"observation.images.{camera}": CameraImages(key=IMAGES + camera) for camera in cameras},
    )
