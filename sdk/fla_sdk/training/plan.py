"""`plan`: how much memory a training takes on each device, and how fast a step can be, before anything is run.

State is counted exactly: shapes, types, and the rule by which `mesh.py` splits arrays. What comes and goes within a
step is an estimate from its trace (`cost.py`). No array is made, and no device is needed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import attrs
import jax
import numpy as np

from fla_sdk.model import Batch, ModelInput, ModelSpec
from fla_sdk.plugins import Registry
from fla_sdk.policy import parameters
from fla_sdk.records import Beginning
from fla_sdk.terminal import size
from fla_sdk.training import mesh as meshes
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.cost import Cost, cost
from fla_sdk.training.demand import UTILISATION
from fla_sdk.training.devices import Device
from fla_sdk.training.freezing import divide
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.preparation import resolve_model
from fla_sdk.training.step import Penalty, TrainState, init_state, train_step

USABLE = 0.9
"""Share of a device's memory that a plan fills; the rest is for the driver, libraries, and gaps between arrays."""

TAKEN_BY_JAX = 0.75
"""Share of a GPU's memory that JAX takes unless `XLA_PYTHON_CLIENT_MEM_FRACTION` says otherwise."""

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


@attrs.frozen(kw_only=True)
class Change:
    """Something to change so that a training fits, and what it would then take."""

    what: str
    setting: str
    """As `fla train` takes it."""

    total: float
    """Bytes per device."""

    fits: bool


@attrs.frozen(kw_only=True)
class Plan:
    """What a training takes on each of `devices` equal devices."""

    model: str
    device: Device
    devices: int
    fsdp_devices: int
    batch_size: int
    memory: Memory
    largest_batch: int
    """That fits, with all else as it is: at least this, at most a few percent more. 0 when not even one sample does."""

    floor: Floor | None
    """None when the device's rates are not known."""

    changes: tuple[Change, ...]
    """When it does not fit."""

    @property
    def usable(self) -> float:
        """Bytes of each device that may be filled."""
        return USABLE * self.device.memory

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.usable

    def describe(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        many = "" if self.devices == 1 else f"{self.devices} x "
        split = f", state split over {self.fsdp_devices}" if self.fsdp_devices > 1 else ""
        where = f"{many}{self.device.name} ({size(self.device.memory)})"
        yield f"{self.model}, batch {self.batch_size}, on {where}{split}: per device"
        for text, value in (
            ("trained parameters", self.memory.trained),
            ("frozen parameters", self.memory.frozen),
            ("optimizer", self.memory.optimizer),
            ("moving average", self.memory.average),
            ("regularizers", self.memory.penalties),
            ("gradients", self.memory.gradients),
            ("activations, about", self.memory.activations),
            (f"{BATCHES} batches", self.memory.batches),
        ):
            if value:
                yield f"  {text:20} {size(value):>9}"
        verdict = "fits" if self.fits else "does not fit"
        usable = f"{size(self.usable)}, {USABLE:.0%} of the memory"
        yield f"  {'in all, about':20} {size(self.memory.total):>9} of {usable}: {verdict}"
        if self.largest_batch:
            yield f"  largest batch that fits: about {self.largest_batch}"
        if self.fits and self.memory.total > TAKEN_BY_JAX * self.device.memory:
            yield f"  JAX takes {TAKEN_BY_JAX:.0%} of a GPU unless told: XLA_PYTHON_CLIENT_MEM_FRACTION={USABLE:g}"
        if self.floor is not None:
            yield from self._speed(self.floor)
        width = max((len(change.what) for change in self.changes), default=0)
        if self.changes:
            yield "one thing to change, per device:"
        for change in self.changes:
            verdict = "fits" if change.fits else "too much"
            yield f"  {change.what:{width}} {size(change.total):>9}, {verdict:8}  {change.setting}"

    def _speed(self, floor: Floor) -> Iterator[str]:
        parts = f"products {floor.products:.3g} s, update {floor.update:.2g} s"
        if floor.links:
            parts += f", links {floor.links:.2g} s"
        most = self.batch_size / floor.total
        yield f"a step takes {floor.total:.3g} s at the least ({parts}): at most {most:.3g} samples/s"
        likely = self.batch_size / (max(floor.products / UTILISATION, floor.links) + floor.update)
        yield f"  at {UTILISATION:.0%} of the peak matrix rate, as large models are trained: {likely:.3g} samples/s"


def plan(config: TrainConfig, registry: Registry, *, device: Device, devices: int = 1) -> Plan:
    """What `config` takes on `devices` of these. Its data are not opened; embodiments say which cameras there are.

    Raises like training itself for a model, group or batch that makes no sense.
    """
    meshes.check_division(fsdp_devices=config.fsdp_devices, batch_size=config.batch_size, devices=devices)
    work = Workload(config, registry, devices=devices)
    memory, usable = work.memory(), USABLE * device.memory
    largest = work.largest_batch(usable)
    changes = [] if memory.total <= usable else _changes(config, registry, work, largest=largest, usable=usable)
    return Plan(
        model=config.model,
        device=device,
        devices=devices,
        fsdp_devices=config.fsdp_devices,
        batch_size=config.batch_size,
        memory=memory,
        largest_batch=largest,
        floor=work.floor(device),
        changes=tuple(changes),
    )


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


# --- What to change ---------------------------------------------------------------------------------------------------


def _changes(
    config: TrainConfig, registry: Registry, work: Workload, *, largest: int, usable: float
) -> Iterator[Change]:
    """One at a time, each with what it leads to."""
    if largest:
        total = work.memory(largest // work.devices).total
        yield Change(what="a smaller batch", setting=f"--batch-size {largest}", total=total, fits=True)
    for what, setting, changed in _candidates(config, registry, work):
        total = Workload(changed, registry, devices=work.devices).memory().total
        yield Change(what=what, setting=setting, total=total, fits=total <= usable)


def _candidates(config: TrainConfig, registry: Registry, work: Workload) -> Iterator[tuple[str, str, TrainConfig]]:
    rows = config.batch_size // work.devices
    if rows > config.accumulate:
        yield (
            "one sample at a time, the same gradient",
            f"--set accumulate={rows}",
            attrs.evolve(config, accumulate=rows),
        )
    if config.fsdp_devices < work.devices:
        yield (
            f"state split over all {work.devices} devices",
            f"--set fsdp_devices={work.devices}",
            attrs.evolve(config, fsdp_devices=work.devices),
        )
    if getattr(work.model_config, "remat", True) is False:
        options = {**config.model_options, "remat": True}
        yield (
            "activations recomputed",
            "--set model_options.remat=true",
            attrs.evolve(config, model_options=options),
        )
    if config.ema_decay is not None:
        yield "no moving average", "--set ema_decay=null", attrs.evolve(config, ema_decay=None)
    if config.freeze and any(leaf.dtype.itemsize > 2 for leaf in work.state.frozen.values()):
        yield (
            "frozen parameters in bfloat16",
            "--set frozen_dtype=bfloat16",
            attrs.evolve(config, frozen_dtype="bfloat16"),
        )
    yield from _other_recipes(config, registry)


def _other_recipes(config: TrainConfig, registry: Registry) -> Iterator[tuple[str, str, TrainConfig]]:
    """Recipes that start from the same weights and train less of them: of each kind the one that is most like ours."""
    if config.init == "scratch":
        return
    others = {name: recipe.config() for name, recipe in registry.recipes.items()}

    def unlike(name: str) -> int:
        return sum(
            getattr(others[name], field.name) != getattr(config, field.name) for field in attrs.fields(TrainConfig)
        )

    seen = {(config.model, config.freeze)}
    for name in sorted(others, key=unlike):
        other = others[name]
        if other.init != config.init or not other.freeze or (other.model, other.freeze) in seen:
            continue
        seen.add((other.model, other.freeze))
        changes = {field: getattr(other, field) for field in ("model", "freeze", "frozen_dtype", "ema_decay")}
        what = f"{other.model}, {' and '.join(other.freeze)} frozen"
        yield what, f"recipe {name}", attrs.evolve(config, **changes)
