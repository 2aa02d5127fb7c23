"""Recordings to measure readers with: LeRobot v3 video, three cameras that see texture, motion and noise."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fla_plugins.lerobot import video_writer
from fla_plugins.lerobot.writer import LeRobotWriter
from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.space import Space, gripper, joints

CAMERAS = ("base", "left_wrist", "right_wrist")
JOINTS = tuple(f"joint_{number}" for number in range(13))
OPTIONS = {
    "libsvtav1": {"preset": "12", "crf": "30"},
    "libx264": {"preset": "veryfast", "crf": "23"},
}
"""Codec -> what it is told besides the length of its groups of pictures. LeRobot's own choice of quality."""

ROBOT = Embodiment(
    name="bench",
    state=Space(joints(*JOINTS), gripper()),
    action=Space(joints(*JOINTS, predict="relative"), gripper()),
    cameras=tuple(Camera(name, slot=f"{name}_0_rgb") for name in CAMERAS),
    control_hz=30,
)


def make_recording(
    path: Path,
    *,
    frames: int = 600,
    episodes: int = 6,
    size: tuple[int, int] = (480, 640),
    codec: str = "libsvtav1",
    group: int = 2,
) -> Path:
    """Record `frames` rows in `episodes` of equal length; a key frame every `group` frames. Takes 10 to 20 s.

    Codec `png` keeps every frame as an image instead.

    The state counts its row in the first dimension, so that a reader can be asked which row it gave.
    """
    shipped = dict(video_writer.CODECS)
    video_writer.CODECS.clear()
    video_writer.CODECS[codec] = OPTIONS.get(codec, {}) | {"g": str(group)}
    names = ROBOT.state.names
    try:
        with LeRobotWriter(
            path, robot=ROBOT.name, fps=30, state_names=names, action_names=names, cameras=CAMERAS, video=codec != "png"
        ) as writer:
            rng = np.random.default_rng(0)
            scenes = [_Scene(size, rng) for _ in CAMERAS]
            length = -(-frames // episodes)
            for row in range(frames):
                state = np.array([row, *rng.uniform(-1, 1, len(names) - 1)], np.float32)
                images = {f"images/{name}": scene(row) for name, scene in zip(CAMERAS, scenes, strict=True)}
                writer.add({**images, "state": state, "task": "pick up the cube"}, state)
                if row % length == length - 1 or row == frames - 1:
                    writer.save_episode()
    finally:
        video_writer.CODECS.clear()
        video_writer.CODECS.update(shipped)
    return path


class _Scene:
    """A textured background that drifts, a block that moves across it, and a sensor's noise."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        height, width = size
        coarse = Image.fromarray(rng.integers(0, 248, (30, 40, 3), dtype=np.uint8))
        self._ground = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        self._noise = rng.integers(0, 8, (height, width, 3), dtype=np.uint8)

    def __call__(self, row: int) -> NDArray[np.uint8]:
        image = np.roll(self._ground, 3 * row, axis=1)
        height, width = image.shape[:2]
        side = height // 6
        top, left = 5 * row % (height - side), 7 * row % (width - side)
        image[top : top + side, left : left + side] = (255, row % 256, 40)
        return image ^ np.roll(self._noise, row, axis=0)
