"""`plan`: whether a training fits its devices, what to change if not, and how fast a step can be; before it is run."""

from collections.abc import Iterator

import attrs
import jax

from fla_sdk.plugins import Registry
from fla_sdk.terminal import size
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.demand import UTILISATION
from fla_sdk.training.devices import Device
from fla_sdk.training.mesh import check_division
from fla_sdk.training.workload import BATCHES, Floor, Memory, Workload

USABLE = 0.9
"""Share of a device's memory that a plan fills; the rest is for the driver, libraries, and gaps between arrays."""

TAKEN_BY_JAX = 0.75
"""Share of a GPU's memory that JAX takes unless `XLA_PYTHON_CLIENT_MEM_FRACTION` says otherwise."""


@attrs.frozen(kw_only=True)
class Change:
    """Something to change so that a training fits or becomes faster, and what it would then take."""

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

    faster: tuple[Change, ...] = ()
    """When it fits: what takes more memory and less time."""

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
        width = max((len(change.what) for change in (*self.changes, *self.faster)), default=0)
        if self.changes:
            yield "one thing to change, per device:"
        if self.faster:
            yield "what would be faster, per device:"
        for change in (*self.changes, *self.faster):
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
    check_division(fsdp_devices=config.fsdp_devices, batch_size=config.batch_size, devices=devices)
    work = Workload(config, registry, devices=devices)
    memory, usable = work.memory(), USABLE * device.memory
    largest = work.largest_batch(usable)
    fits = memory.total <= usable
    changes = [] if fits else _changes(config, registry, work, largest=largest, usable=usable)
    faster = _faster(config, registry, work, usable=usable) if fits else []
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
        faster=tuple(faster),
    )


def memory_here(config: TrainConfig, registry: Registry) -> str:
    """What `config` takes on the devices of this run, in a line."""
    memory = Workload(config, registry, devices=jax.device_count()).memory()
    return f"memory: about {size(memory.total)} per device, {size(memory.state)} of it between steps (see fla plan)"


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


_WORTH_IT = 0.02
"""Share of operations below which nothing is proposed."""

_RECOMPUTED = ("all", "cheap", "nothing")
"""What models with a field `remat` compute once more in the backward pass, the least memory first."""


def _recomputed(work: Workload) -> int:
    """Place of the config's own way in `_RECOMPUTED`; 0 for a model that knows no other."""
    own = getattr(work.model_config, "remat", None)
    return _RECOMPUTED.index(own) if own in _RECOMPUTED else 0


def _faster(config: TrainConfig, registry: Registry, work: Workload, *, usable: float) -> Iterator[Change]:
    if not hasattr(work.model_config, "remat"):
        return
    operations = sum(work.cost(work.rows).operations.values())
    for remat in _RECOMPUTED[_recomputed(work) + 1 :]:
        changed = attrs.evolve(config, model_options={**config.model_options, "remat": remat})
        other = Workload(changed, registry, devices=work.devices)
        saved = 1 - sum(other.cost(other.rows).operations.values()) / operations
        if (total := other.memory().total) <= usable and saved > _WORTH_IT:
            what = f"{saved:.0%} fewer operations"
            yield Change(what=what, setting=f"--set model_options.remat={remat}", total=total, fits=True)


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
    for remat in _RECOMPUTED[: _recomputed(work)]:
        options = {**config.model_options, "remat": remat}
        yield (
            f"activations recomputed ({remat})",
            f"--set model_options.remat={remat}",
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
        changes["model_options"] = {**other.model_options, **config.model_options}
        what = f"{other.model}, {' and '.join(other.freeze)} frozen"
        yield what, f"recipe {name}", attrs.evolve(config, **changes)
