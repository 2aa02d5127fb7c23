"""robomimic's HDF5: `data/demo_<n>` with `actions` and `obs/...`; as robomimic, LIBERO and Isaac Lab write it.

LIBERO stores pictures as its simulator gives them, upside down; openpi's LIBERO data and its robot clients turn them by
180 degrees, and so do we, here and nowhere else. (openpi's were rendered again at 256x256; the published files have
128x128, and keep it unless a mapping gives a `size`.) robomimic and Isaac Lab store them upright.
"""

import json
import re
from collections.abc import Mapping as Entries
from pathlib import Path
from typing import Any, cast

import h5py

from fla_plugins.recordings.hdf5 import Hdf5Recording
from fla_plugins.recordings.mapping import CameraImages, Column, Mapping
from fla_plugins.recordings.recording import Recording, Stream, as_text

EPISODES = "data/demo_*"
DEFAULT_FPS = 20.0
"""Of robosuite, which LIBERO and robomimic's own data come from."""

STATES = (
    (("ee_states", "gripper_states"), ("x", "y", "z", "rx", "ry", "rz", "left_finger", "right_finger")),  # LIBERO
    (("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"), None),  # robosuite
    (("joint_pos",), None),  # Isaac Lab
    (("eef_pos", "eef_quat", "gripper_pos"), None),
    (("policy",), None),
)
"""Observations that make up `observation.state`, the first that are all there; and names of the dimensions."""

LIBERO_CAMERAS = {"agentview_rgb": "image", "eye_in_hand_rgb": "wrist_image"}
LIBERO_ACTIONS = ("x", "y", "z", "rx", "ry", "rz", "gripper")


def is_robomimic(file: h5py.File) -> bool:
    return isinstance(data := file.get("data"), h5py.Group) and any(str(name).startswith("demo_") for name in data)


def robomimic_mapping(file: h5py.File, streams: Entries[str, Stream]) -> Mapping:
    """Of a file whose first episode has these arrays."""
    rows = streams["actions"].rows if "actions" in streams else 0
    observed = {
        key: stream for key, stream in streams.items() if key.startswith("obs/") and rows and stream.rows == rows
    }
    libero = "obs/agentview_rgb" in observed
    keys, names = _state(observed)
    columns = {"observation.state": Column(keys=keys, names=names)} if keys else {}
    columns["action"] = Column(keys=("actions",), names=LIBERO_ACTIONS if libero else None)
    for name in ("rewards", "dones"):
        if name in streams and streams[name].rows == rows:
            columns[f"next.{name.removesuffix('s')}"] = Column(keys=(name,))
    cameras: dict[str, CameraImages] = {}
    for key, stream in observed.items():
        name = key.removeprefix("obs/").replace("/", ".")
        if stream.is_pixels and len(stream.shape) == 3 and stream.shape[-1] in (3, 4):
            camera = LIBERO_CAMERAS.get(name, name.removesuffix("_image"))
            cameras[f"observation.images.{camera}"] = CameraImages(key=key, rotate=180 if libero else 0)
        elif stream.is_numeric and len(stream.shape) < 2 and (key,) != keys:
            columns[f"observation.{name}"] = Column(keys=(key,))
    return Mapping(
        format="hdf5",
        files="*.hdf5",
        episodes=EPISODES,
        fps=_fps(file),
        robot="libero" if libero else None,
        columns=columns,
        cameras=cameras,
    )


def robomimic_task(recording: Recording) -> str:
    """What the file says the task is, or else LIBERO's file name, which spells it; empty where neither does."""
    assert isinstance(recording, Hdf5Recording)
    file = recording.opened.open(recording.path)
    said = _json(file, "problem_info").get("language_instruction", "")
    text = "".join(said) if isinstance(said, list) else str(said)
    return text.strip().strip('"') or _task_in_name(recording.path)


def _task_in_name(path: Path) -> str:
    if not path.stem.endswith("_demo"):
        return ""
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", path.stem.removesuffix("_demo")).replace("_", " ")


def _state(observed: Entries[str, Stream]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    for parts, names in STATES:
        keys = tuple(f"obs/{part}" for part in parts)
        if all(key in observed for key in keys):
            width = sum(observed[key].shape[-1] if observed[key].shape else 1 for key in keys)
            return keys, names if names and len(names) == width else None
    return (), None


def _fps(file: h5py.File) -> float:
    """robosuite names its rate; Isaac Lab its time step (seconds) and how many of them one action lasts."""
    described = _json(file, "env_args")
    kwargs, simulated = described.get("env_kwargs") or {}, described.get("sim_args") or {}
    if rate := kwargs.get("control_freq"):
        return float(rate)
    if "dt" in simulated and "decimation" in simulated:
        return round(1 / (float(simulated["dt"]) * int(simulated["decimation"])), 3)
    return DEFAULT_FPS


def _json(file: h5py.File, attribute: str) -> dict[str, Any]:
    text = as_text(file["data"].attrs.get(attribute))
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
