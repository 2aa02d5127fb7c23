"""`Workload`: the step of a config as shapes, and what it takes on each device.

State is counted exactly: shapes, types, and the rule by which `mesh.py` splits arrays. What comes and goes within a
step is an estimate from its trace (`cost.py`). No array is made, and no device is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import jax
import numpy as np

from fla_sdk.model import Batch, ModelInput, ModelSpec
from fla_sdk.plugins import Registry
from fla_sdk.policy import parameters
from fla_sdk.records import Beginning
from fla_sdk.training import mesh as meshes
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.cost import Cost, cost
from fla_sdk.training.devices import Device
from fla_sdk.training.freezing import divide
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.preparation import resolve_model
from fla_sdk.training.step import Penalty, TrainState, init_state, train_step

BATCHES = 4
"""Batches on the devices: one in use, two that wait (`feed.py`), one on its way."""

MOST_ROWS = 1024
"""Samples per device beyond which nobody looks for the largest batch."""


@attrs.frozen(kw_only=True)
class Memory:
    """Bytes on each device, by what they hold."""

    trained: float
    frozen: float
    optimizer: float
    average: float
    """The moving average of the trained parameters."""

    penalties: float
    """What regularizers carry."""

    gradients: float
    activations: float
    """An estimate, like all that is not said to be exact: what else is held in the middle of a step."""

    batches: float

    @property
    def state(self) -> float:
        """Exact: what is held between steps, without batches."""
        return self.trained + self.frozen + self.optimizer + self.average + self.penalties

    @property
    def total(self) -> float:
        return self.state + self.gradients + self.activations + self.batches


@attrs.frozen(kw_only=True)
class Floor:
    """Seconds that a step takes at the least, if each device reaches its peak rates."""

    products: float
    """Matrix products, recomputed activations included, at the peak rate."""

    update: float
    """Gradients and state read, state written, at the peak bandwidth. It waits for the gradient's norm, and so for all
    products."""

    links: float
    """Parameters gathered twice for each part of the batch, gradients scattered and summed. It may hide behind
    products."""

    @property
    def total(self) -> float:
        return max(self.products, self.links) + self.update


class Workload:
    """The step of a config, as shapes."""

    def __init__(self, config: TrainConfig, registry: Registry, *, devices: int) -> None:
        self.config, self.devices = config, devices
        self.family, self.model_config = resolve_model(config.model, config.model_options, registry)
        self._spec = self.family.spec(self.model_config)
        self._slots = _slots(config, registry, self._spec)
        self._graph, flat = parameters.abstract(self.family, self.model_config)
        params, frozen = jax.eval_shape(partial(divide, config, self.family, self._spec), flat)
        self._optimizer, self._schedule = make_optimizer(config.optimizer)
        self._penalties, carried = self._regularizers(registry, params)
        begin = partial(init_state, optimizer=self._optimizer, ema=config.ema_decay is not None)
        self.state = jax.eval_shape(lambda p, f, c: begin(p, f, penalties=c), params, frozen, carried)
        self._costs: dict[int, Cost] = {}

    def _regularizers(self, registry: Registry, params: Any) -> tuple[list[Penalty], tuple[Any, ...]]:
        penalties: list[Penalty] = []
        carried: list[Any] = []
        for one in self.config.regularizers:
            record = registry.regularizer(one.name)

            def prepare(params: Any, options: Mapping[str, Any] = one.options, record: Any = record) -> Any:
                return record.prepare(Beginning(params=params, options=options, checkpoint=None, resumes=True))

            carried.append(jax.eval_shape(prepare, params))
            penalties.append(Penalty(value=record.penalty, update=record.update))
        return penalties, tuple(carried)

    @property
    def rows(self) -> int:
        """Samples on each device, in whole parts."""
        parts = self.config.accumulate
        return -(-self.config.batch_size // (self.devices * parts)) * parts

    def batch(self, rows: int) -> Batch:
        """Of one device, as shapes."""
        return example(self._spec, self._slots, rows)

    def memory(self, rows: int | None = None) -> Memory:
        """With `rows` samples on each device; those of the config if None."""
        rows = self.rows if rows is None else rows
        gradients = self._bytes(self.state.params)
        batch = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.batch(rows)))
        return Memory(
            trained=gradients,
            frozen=self._bytes(self.state.frozen),
            optimizer=self._bytes((self.state.opt_state, self.state.step)),
            average=self._bytes(self.state.ema),
            penalties=self._bytes(self.state.penalties),
            gradients=gradients,
            activations=max(self.cost(rows).memory - gradients, 0),
            batches=BATCHES * batch,
        )

    @property
    def step(self) -> Callable[..., Any]:
        """State, batch and key -> state and metrics, as training compiles it but for what is only reported."""
        return partial(
            train_step,
            graph=self._graph,
            optimizer=self._optimizer,
            schedule=self._schedule,
            ema_decay=self.config.ema_decay,
            accumulate=self.config.accumulate,
            penalties=self._penalties,
        )

    def arguments(self, rows: int) -> tuple[TrainState, Batch, Any]:
        """Of `step` on one device, as shapes."""
        return self.state, self.batch(rows), jax.eval_shape(lambda: jax.random.key(0))

    def cost(self, rows: int) -> Cost:
        """Of one step on one device."""
        if rows not in self._costs:
            self._costs[rows] = cost(self.step, *self.arguments(rows), held=self._held)
        return self._costs[rows]

    def largest_batch(self, usable: float) -> int:
        """For all devices together, or a few percent less.

        Memory is convex in the batch, the largest of several sums that grow with it: a chord lies above it, so what
        fits by a chord fits.
        """
        parts = self.config.accumulate

        def total(count: int) -> float:
            return self.memory(count * parts).total

        low = self.rows // parts
        if total(low) > usable:
            low, high = 1, low
        else:
            high = 4 * low
            while total(high) <= usable:
                low, high = high, 4 * high
                if high * parts > MOST_ROWS:
                    return low * parts * self.devices
        if total(low) > usable:
            return 0
        while (gain := int((high - low) * (usable - total(low)) / (total(high) - total(low)))) > low // 20:
            low += gain
        return (low + gain) * parts * self.devices

    def floor(self, device: Device) -> Floor | None:
        """Of one step; None when the device's rates are not known."""
        if device.matrix_rate is None or device.bandwidth is None:
            return None
        operations = self.cost(self.rows).operations
        wide = sum(count for width, count in operations.items() if width > 2)
        narrow = sum(operations.values()) - wide
        state = self.memory()
        changing = state.trained + state.optimizer + state.average
        return Floor(
            products=(narrow + 2 * wide) / device.matrix_rate,
            update=(state.gradients + 2 * changing) / device.bandwidth,
            links=0.0 if device.link is None else self._sent() / device.link,
        )

    def _sent(self) -> float:
        """Bytes that each device sends in a step, by rings."""
        shared, parts = self.config.fsdp_devices, self.config.accumulate
        groups = self.devices // shared
        whole = sum(leaf.size * leaf.dtype.itemsize for leaf in self.state.params.values())
        all_whole = whole + sum(leaf.size * leaf.dtype.itemsize for leaf in self.state.frozen.values())
        local = self._bytes(self.state.params)
        within = (2 * all_whole + whole) * parts * (shared - 1) / shared
        return within + 2 * local * (groups - 1) / groups

    @cached_property
    def _split(self) -> Mapping[tuple[int, ...], int]:
        """Shapes of parameters that are split -> over how many devices."""
        count = self.config.fsdp_devices
        leaves = {**self.state.params, **self.state.frozen}.values()
        split = [leaf for leaf in leaves if meshes.split_axis(leaf.shape, leaf.dtype, devices=count) is not None]
        return {tuple(leaf.shape): count for leaf in split}

    def _held(self, shape: tuple[int, ...]) -> int:
        return self._split.get(shape, 1)

    def _bytes(self, tree: Any) -> float:
        """Of a device's share of a tree of state."""
        total, count = 0.0, self.config.fsdp_devices
        for leaf in jax.tree.leaves(tree):
            axis = meshes.split_axis(leaf.shape, leaf.dtype, devices=count)
            total += leaf.size * leaf.dtype.itemsize / (1 if axis is None else count)
        return total


def example(spec: ModelSpec, slots: Sequence[str], rows: int) -> Batch:
    """A batch with images in `slots` and the longest prompts, as shapes."""

    def array(*shape: int, dtype: Any = np.bool_) -> Any:
        return jax.ShapeDtypeStruct((rows, *shape), dtype)

    tokens = spec.max_tokens
    writes = spec.action_tokens != "none"
    inputs = ModelInput(
        images={slot: array(*spec.image_size, 3, dtype=np.uint8) for slot in slots},
        image_masks={slot: array() for slot in slots},
        state=array(spec.action_dim, dtype=np.float32),
        tokens=array(tokens, dtype=np.int32),
        token_mask=array(tokens),
        token_ar=array(tokens) if writes else None,
    )
    return Batch(
        inputs=inputs,
        actions=array(spec.horizon, spec.action_dim, dtype=np.float32),
        action_dims=array(spec.action_dim),
        action_steps=array(spec.horizon),
        token_loss=array(tokens) if writes else None,
        returns=array(dtype=np.float32),
        origin=array(2, dtype=np.int32),
    )


def _slots(config: TrainConfig, registry: Registry, spec: ModelSpec) -> list[str]:
    """Those that a robot of the config has a camera for; all when it names no robot."""
    robots = [registry.embodiment(source.embodiment) for source in config.sources]
    filled = {camera.slot for robot in robots for camera in robot.cameras}
    return [slot for slot in spec.image_slots if not robots or slot in filled]
