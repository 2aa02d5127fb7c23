"""Finding plugins, keeping their faults apart, and the `Registry` of what they provide.

Loading forgives, using does not: every entry point of group `fla.plugins` loads in its own guard, and one that breaks
is kept with its reason; asking for something that only it would have provided raises that reason.

    FLA_PLUGINS          unset: all; empty: none; `a,b`: only these entry points
    FLA_PLUGINS_BLOCK    `a,b`: not these
    FLA_STRICT_PLUGINS   `1`: a broken plugin raises at once (for plugin authors and CI)
"""

import inspect
import os
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pluggy

from fla_sdk import hookspecs
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import FlaError, PluginError, UnknownNameError, nearest
from fla_sdk.records import (
    Benchmark,
    Command,
    DatasetFormat,
    ModelFamily,
    Recipe,
    Regularizer,
    Tracker,
    drain,
)

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset
    from fla_sdk.policy.interface import PolicyLike
    from fla_sdk.training.config import TrainConfig

Record = TypeVar("Record")

REGISTRATIONS: Mapping[str, tuple[str, type]] = {
    "fla_embodiments": ("embodiment", Embodiment),
    "fla_datasets": ("dataset format", DatasetFormat),
    "fla_models": ("model family", ModelFamily),
    "fla_regularizers": ("regularizer", Regularizer),
    "fla_recipes": ("recipe", Recipe),
    "fla_benchmarks": ("benchmark", Benchmark),
    "fla_trackers": ("tracker", Tracker),
    "fla_commands": ("command", Command),
}
"""Registration hook -> what it registers, and the record it must yield."""


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One entry point: where it comes from, what it answers, and why it is broken if it is."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    """Names of its records, as `embodiment aloha`."""
    error: str | None = None

    @property
    def source(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"{self.source}: {self.error or 'ok'}"


@attrs.frozen(kw_only=True)
class _Entry:
    record: Any
    plugin: PluginInfo


class Registry:
    """What the loaded plugins provide. Built by `load_plugins` and passed on; there is no global one."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("fla")
        self._manager.add_hookspecs(hookspecs)
        self._records: dict[str, dict[str, _Entry]] = {kind: {} for kind, _ in REGISTRATIONS.values()}
        self.plugins: list[PluginInfo] = []

    # --- Loading ---

    def add(self, plugin: Any, *, name: str, distribution: str = "this process", version: str = "-") -> PluginInfo:
        """Register a module or object with hook implementations. Raises `PluginError` and leaves no trace of it."""
        info = PluginInfo(name=name, distribution=distribution, version=version)
        try:
            self._refuse_twice(plugin, name)
            _refuse_pitfalls(plugin)
            self._manager.register(plugin, name)
            self._manager.check_pending()
            info = attrs.evolve(info, hooks=self._hooks_of(plugin))
            entries = self._collect(plugin, info)
        except (Exception, SystemExit) as error:
            if self._manager.get_plugin(name) is plugin:
                self._manager.unregister(plugin)
            raise PluginError(f"{info.source}: {_reason(error)}") from error
        info = attrs.evolve(info, provides=tuple(f"{kind} {key}" for kind, key in entries))
        for (kind, key), record in entries.items():
            self._records[kind][key] = _Entry(record=record, plugin=info)
        self.plugins.append(info)
        return info

    def add_broken(self, entry: EntryPoint, error: BaseException) -> None:
        """Remember why an entry point could not be loaded."""
        self.plugins.append(attrs.evolve(_identify(entry), error=_reason(error)))

    def _refuse_twice(self, plugin: Any, name: str) -> None:
        for other in self.plugins:
            if not other.error and other.name == name:
                raise PluginError(
                    f"a plugin called {name!r} is already loaded from {other.distribution} {other.version}"
                )
            if not other.error and self._manager.get_plugin(other.name) is plugin:
                raise PluginError(f"this module is already loaded as {other.source}")

    def _hooks_of(self, plugin: Any) -> tuple[str, ...]:
        return tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ()))

    def _collect(self, plugin: Any, info: PluginInfo) -> dict[tuple[str, str], Any]:
        """The records of one plugin, drained here so that a generator's faults are its own."""
        others = [p for p in self._manager.get_plugins() if p is not plugin]
        found: dict[tuple[str, str], Any] = {}
        for hook, (kind, cls) in REGISTRATIONS.items():
            for result in self._manager.subset_hook_caller(hook, others)():
                for record in _drained(hook, result):
                    if not isinstance(record, cls):
                        raise PluginError(f"{hook} yielded {record!r:.80}; it must yield {cls.__name__} records")
                    name: str = record.name  # pyright: ignore[reportAttributeAccessIssue]
                    if (kind, name) in found:
                        raise PluginError(f"{hook} yielded {kind} {name!r} twice")
                    if (other := self._records[kind].get(name)) is not None:
                        raise PluginError(
                            f"{kind} {name!r} is already provided by {other.plugin.distribution} "
                            f"{other.plugin.version}, and again by {info.distribution} {info.version}; rename one, or "
                            f"block one with FLA_PLUGINS_BLOCK={other.plugin.name} or ={info.name}"
                        )
                    found[kind, name] = record
        return found

    # --- Looking up ---

    @property
    def broken(self) -> tuple[PluginInfo, ...]:
        return tuple(info for info in self.plugins if info.error)

    def _all(self, kind: str, cls: type[Record]) -> dict[str, Record]:
        del cls
        return {name: entry.record for name, entry in sorted(self._records[kind].items())}

    def _one(self, kind: str, cls: type[Record], name: str) -> Record:
        entry = self._records[kind].get(name)
        if entry is None:
            raise UnknownNameError(kind, name, self._records[kind], reason=self._why_missing(name))
        del cls
        return entry.record

    def _why_missing(self, name: str) -> str | None:
        """The reason of a broken plugin whose name or distribution speaks of `name`."""
        for info in self.broken:
            if name in (info.name, *info.distribution.replace("fla-plugin-", "").split()) or name in (info.error or ""):
                return f"{info.source} would provide it but is broken: {info.error}"
        return None

    def provider(self, kind: str, name: str) -> PluginInfo:
        """Which plugin provides a record; `kind` as in `REGISTRATIONS`."""
        entry = self._records[kind].get(name)
        if entry is None:
            raise UnknownNameError(kind, name, self._records[kind])
        return entry.plugin

    @property
    def embodiments(self) -> dict[str, Embodiment]:
        return self._all("embodiment", Embodiment)

    def embodiment(self, name: str) -> Embodiment:
        return self._one("embodiment", Embodiment, name)

    @property
    def datasets(self) -> dict[str, DatasetFormat]:
        return self._all("dataset format", DatasetFormat)

    def dataset_format(self, name: str) -> DatasetFormat:
        return self._one("dataset format", DatasetFormat, name)

    @property
    def models(self) -> dict[str, ModelFamily]:
        return self._all("model family", ModelFamily)

    def model(self, name: str) -> ModelFamily:
        return self._one("model family", ModelFamily, name)

    @property
    def regularizers(self) -> dict[str, Regularizer]:
        return self._all("regularizer", Regularizer)

    def regularizer(self, name: str) -> Regularizer:
        return self._one("regularizer", Regularizer, name)

    @property
    def recipes(self) -> dict[str, Recipe]:
        return self._all("recipe", Recipe)

    def recipe(self, name: str) -> Recipe:
        return self._one("recipe", Recipe, name)

    @property
    def benchmarks(self) -> dict[str, Benchmark]:
        return self._all("benchmark", Benchmark)

    def benchmark(self, name: str) -> Benchmark:
        return self._one("benchmark", Benchmark, name)

    @property
    def trackers(self) -> dict[str, Tracker]:
        return self._all("tracker", Tracker)

    def tracker(self, name: str) -> Tracker:
        return self._one("tracker", Tracker, name)

    @property
    def commands(self) -> dict[str, Command]:
        return self._all("command", Command)

    # --- Events: one typed method per hook ---

    def train_started(self, *, config: "TrainConfig", run_dir: Path, step: int) -> None:
        self._tell("fla_train_started", config=config, run_dir=run_dir, step=step)

    def step_ended(self, *, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self._tell("fla_step_ended", step=step, total=total, metrics=metrics)

    def checkpoint_saved(self, *, step: int, path: Path) -> None:
        self._tell("fla_checkpoint_saved", step=step, path=path)

    def train_ended(self, *, step: int, reason: str) -> None:
        self._tell("fla_train_ended", step=step, reason=reason)

    def policy_called(self, *, embodiment: str, milliseconds: float) -> None:
        self._tell("fla_policy_called", embodiment=embodiment, milliseconds=milliseconds)

    def _tell(self, hook: str, **arguments: Any) -> None:
        """Call each implementation on its own, so that a failure names its plugin."""
        for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):  # pluggy's own order
            try:
                impl.function(*(arguments[name] for name in impl.argnames))
            except Exception as error:
                raise PluginError(f"plugin {impl.plugin_name!r} failed in {hook}: {_reason(error)}") from error

    # --- Choices ---

    def open_dataset(self, uri: str) -> "Dataset | None":
        """The dataset that a plugin recognises in `uri`, or None."""
        return self._manager.hook.fla_open_dataset(uri=uri)

    def open_checkpoint(
        self, path: Path, *, embodiment: str | None = None, options: Mapping[str, Any] = {}
    ) -> "PolicyLike | None":
        """The policy that a plugin recognises in `path`, or None."""
        return self._manager.hook.fla_open_checkpoint(path=path, registry=self, embodiment=embodiment, options=options)


def load_plugins(
    *, environment: Mapping[str, str] | None = None, entries: Iterable[EntryPoint] | None = None
) -> Registry:
    """Load every installed plugin of group `fla.plugins`, sorted by name, each in its own guard.

    `environment` stands in for `os.environ`, `entries` for what is installed. Broken plugins are in `Registry.broken`.
    """
    environment = os.environ if environment is None else environment
    found = sorted(entry_points(group="fla.plugins") if entries is None else entries, key=lambda e: e.name)
    only = _names(environment["FLA_PLUGINS"]) if "FLA_PLUGINS" in environment else None
    block = _names(environment.get("FLA_PLUGINS_BLOCK", ""))
    known = {entry.name for entry in found}
    for name in sorted((only or set()) | block):
        if name not in known:
            raise UnknownNameError("plugin in FLA_PLUGINS or FLA_PLUGINS_BLOCK", name, known)
    strict = environment.get("FLA_STRICT_PLUGINS") == "1"
    registry = Registry()
    for entry in found:
        if (only is not None and entry.name not in only) or entry.name in block:
            continue
        identity = _identify(entry)
        try:
            registry.add(entry.load(), name=entry.name, distribution=identity.distribution, version=identity.version)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does must not stop the others
            if strict:
                raise
            registry.add_broken(entry, error)
    return registry


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


def _identify(entry: EntryPoint) -> PluginInfo:
    dist = entry.dist
    return PluginInfo(
        name=entry.name, distribution=dist.name if dist else "unknown", version=dist.version if dist else "-"
    )


def _reason(error: BaseException) -> str:
    """One line; our own errors already say what they are about."""
    text = " ".join(str(error).split())
    if isinstance(error, pluggy.PluginValidationError):
        return _explain_validation(text)
    if isinstance(error, FlaError):
        return text.split(": ", 1)[1] if text.startswith("plugin '") and ": " in text else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _explain_validation(text: str) -> str:
    """Add the nearest hook to pluggy's 'unknown hook' message."""
    if (unknown := re.match(r"unknown hook '(\w+)'", text)) is None:
        return text
    known = [name for name in dir(hookspecs) if name.startswith("fla_")]
    close = nearest(unknown[1], known)
    hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
    return f"unknown hook {unknown[1]!r}; {hint} (or it needs another version of fla-sdk)"


def _drained(hook: str, result: Any) -> list[Any]:
    if not (result is None or attrs.has(result.__class__) or isinstance(result, Iterable)):
        raise PluginError(f"{hook} returned {result!r:.80}; it must yield records")
    return list(drain(result))


def _refuse_pitfalls(plugin: Any) -> None:
    """What pluggy would accept and then do something else than the author expects."""
    for name in dir(plugin):
        function = getattr(plugin, name, None)
        options = getattr(function, "fla_impl", None)
        if not callable(function) or options is None:
            continue
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginError(f"{name} is a hook wrapper; every plugin answers for itself only")
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                raise PluginError(
                    f"{name} gives {parameter.name!r} a default value; hook arguments may not have defaults "
                    "(pluggy 1.6 ignores the caller's value, 1.7 does not)"
                )
