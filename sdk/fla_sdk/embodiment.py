"""`Embodiment`: everything the SDK knows about a robot, in one frozen record."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import EmbodimentError, ObservationError, nearest
from fla_sdk.sample import Sample
from fla_sdk.space import Space
from fla_sdk.transforms import flatten_keys, to_image

Vectors = Callable[[NDArray[np.floating]], NDArray[np.floating]]


@attrs.frozen
class Camera:
    """A camera of the robot and the model slot that its image goes to."""

    name: str = attrs.field(validator=attrs.validators.instance_of(str))
    slot: str | None = attrs.field(kw_only=True)
    """Image slot of the model (`base_0_rgb`, `left_wrist_0_rgb`, `right_wrist_0_rgb`); None: accepted, not used."""

    required: bool = attrs.field(default=True, kw_only=True)
    """Whether an observation without it is refused."""

    aliases: tuple[str, ...] = attrs.field(default=(), converter=tuple, kw_only=True)
    """Keys under which datasets and clients deliver it, besides `images/<name>` and `observation.images.<name>`."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys to look under, first match wins."""
        return (*self.aliases, f"images/{self.name}", f"observation.images.{self.name}")


@attrs.frozen(kw_only=True)
class Conversion:
    """Functions for robots whose numbers need more than declarations, on vectors `[..., width]`.

    `actions_from_model` must invert `actions_to_model`; the conformance kit checks it.
    """

    state_to_model: Vectors
    actions_to_model: Vectors
    actions_from_model: Vectors


@attrs.frozen(kw_only=True)
class Embodiment:
    """A robot: its spaces with units, its cameras, its rhythm and its words.

    Raises `EmbodimentError` when built from parts that contradict each other.
    """

    name: str
    """Short, lower case, unique: how data, checkpoints, clients and the command line speak of it."""

    state: Space
    action: Space
    cameras: tuple[Camera, ...] = attrs.field(converter=tuple)
    control_hz: float
    """Actions per second."""

    prompt: str = "{task}"
    """Text given to the model; `{task}` is what the operator or the dataset says."""

    control_mode: str = "default"
    """What the action means ("joint_position", "joint_velocity", ...). Statistics belong to (name, control_mode)."""

    default_task: str | None = None
    """Task of observations that name none; None makes them an error."""

    conversion: Conversion | None = None
    example_task: str = "do something"
    image_shape: tuple[int, int] = (480, 640)
    """`(height, width)` of the example observation's images."""

    description: str = ""

    def __attrs_post_init__(self) -> None:
        where = f"embodiment {self.name!r}"
        if not self.name or not all(c.isalnum() or c in "_-" for c in self.name):
            raise EmbodimentError(f"{where}: the name must be letters, digits, '_' or '-', and not empty")
        if self.control_hz <= 0:
            raise EmbodimentError(f"{where}: control_hz is {self.control_hz}, must be above 0 (actions per second)")
        if "{task}" not in self.prompt:
            raise EmbodimentError(f"{where}: prompt {self.prompt!r} has no '{{task}}' to put the task in")
        for what, names in (
            ("camera name", [c.name for c in self.cameras]),
            ("camera slot", [c.slot for c in self.cameras if c.slot is not None]),
        ):
            if repeated := sorted({n for n in names if names.count(n) > 1}):
                raise EmbodimentError(f"{where}: {what} used twice: {', '.join(repeated)}")
        self.relative_to()

    def relative_to(self) -> NDArray[np.int64]:
        """`[A]`: for each action dimension that is predicted relative, the state dimension it is relative to; else -1.

        Matched by dimension name, and the units must agree.
        """
        state_units = {name: field.unit for field in self.state for name in field.names}
        state_index = {name: i for i, name in enumerate(self.state.names)}
        index: list[int] = []
        for field in self.action:
            for name in field.names:
                if field.predict == "as_is":
                    index.append(-1)
                    continue
                if name not in state_index:
                    hint = f"; did you mean {close!r}?" if (close := nearest(name, state_index)) else ""
                    raise EmbodimentError(
                        f"embodiment {self.name!r}: action {name!r} is predicted relative to the state, but the state "
                        f"has no dimension of that name{hint} (state: {', '.join(state_index)})"
                    )
                if state_units[name] != field.unit:
                    raise EmbodimentError(
                        f"embodiment {self.name!r}: action {name!r} is in {field.unit!r}, the state of that name in "
                        f"{state_units[name]!r}; a relative prediction needs the same unit"
                    )
                index.append(state_index[name])
        return np.array(index)

    def observe(self, observation: Mapping[str, Any]) -> Sample:
        """The sample in an observation from a robot client, found under this embodiment's aliases.

        Keys may be nested (`{"images": {"top": ...}}`) or flat (`"images/top"`). Images may be `[H, W, 3]` or
        `[3, H, W]`, uint8 or float in [0, 1]. Raises `ObservationError` with both sides.
        """
        record = flatten_keys(observation)
        state = self._vector(record)
        images: dict[str, NDArray[np.uint8]] = {}
        for camera in self.cameras:
            key = next((k for k in camera.keys if k in record), None)
            if key is not None:
                images[camera.name] = to_image(record[key], where=f"{self.name}: camera {camera.name!r} (key {key!r})")
            elif camera.required:
                raise ObservationError(
                    f"{self.name}: camera {camera.name!r} is missing; expected an image under "
                    f"{' or '.join(repr(k) for k in camera.keys)}, got keys {', '.join(sorted(record)) or 'none'}"
                )
        return Sample(images=images, state=state, task=self._task(record))

    def _vector(self, record: Mapping[str, Any]) -> NDArray[np.floating]:
        try:
            state = self.state.gather(record, "state")
        except ValueError as error:  # lists of lists, of different lengths
            raise ObservationError(f"{self.name}: the state must be a list of numbers: {error}") from error
        if state is None:
            raise ObservationError(
                f"{self.name}: the state is missing; expected {self.state.keys('state')}, "
                f"got keys {', '.join(sorted(record)) or 'none'}"
            )
        if state.dtype.kind not in "fiu":
            raise ObservationError(f"{self.name}: the state must be numbers, got dtype {state.dtype}")
        if state.shape != (self.state.width,):
            raise ObservationError(
                f"{self.name}: the state must have shape ({self.state.width},) for {', '.join(self.state.names)}; "
                f"got shape {state.shape}"
            )
        if not np.isfinite(state).all():
            bad = ", ".join(n for n, ok in zip(self.state.names, np.isfinite(state), strict=True) if not ok)
            raise ObservationError(f"{self.name}: the state is not finite in {bad}")
        return state if state.dtype.kind == "f" else state.astype(np.float32)

    def _task(self, record: Mapping[str, Any]) -> str:
        given = [record[key] for key in ("task", "prompt") if record.get(key) is not None]
        task: Any = given[0] if given else self.default_task
        if isinstance(task, np.ndarray):  # as openpi's clients send it
            task = cast("NDArray[Any]", task)
            task = task.item() if task.size == 1 else task.tolist()
        if isinstance(task, bytes):
            task = task.decode(errors="replace")
        if not isinstance(task, str):
            raise ObservationError(f"{self.name}: no task; send what to do as a string under 'task' or 'prompt'")
        return str(task)

    def example_observation(self, seed: int = 0) -> dict[str, Any]:
        """A made-up observation with the right keys, shapes and types, for tests and for wiring up a client."""
        rng = np.random.default_rng(seed)
        state = np.zeros(self.state.width, np.float32)
        for field, part in self.state.slices():
            low, high = field.limits or (-1.0, 1.0)
            state[part] = rng.uniform(low, high, field.width)
        images = {
            f"images/{c.name}": rng.integers(0, 256, (*self.image_shape, 3), dtype=np.uint8) for c in self.cameras
        }
        return {**images, "state": state, "task": self.example_task}
