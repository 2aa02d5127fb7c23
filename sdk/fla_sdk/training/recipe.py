"""`recipe`: a named training config with one's own data and changes; what `fla train` does with its arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from fla_sdk.config import override
from fla_sdk.errors import ConfigError, nearest
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.training.config import Source, TrainConfig
from fla_sdk.training.preparation import resolve_model


def recipe(
    name: str,
    *,
    data: str | Sequence[str] = (),
    embodiment: str | Sequence[str] = (),
    plugins: Registry | None = None,
    **changes: Any,
) -> TrainConfig:
    """The config of a recipe, for `Trainer`.

    `data` and `embodiment` are one dataset and its robot, or several; without `embodiment`, `data` are for the recipe's
    own sources, in their order. `changes` are fields of `TrainConfig`, of `Source` (for all of them), or of the model's
    config: `recipe("pi05_lora", data="ds", embodiment="so101", batch_size=16, prompt="Hand: {task}", horizon=20)`.
    Raises `ConfigError` for a field that none of them has, with the nearest.
    """
    plugins = load_plugins() if plugins is None else plugins
    config = plugins.recipe(name).config()
    of_run = {field.name for field in attrs.fields(TrainConfig)}
    of_source = {field.name for field in attrs.fields(Source)} - {"data", "embodiment"}
    model_config = resolve_model(str(changes.get("model", config.model)), {}, plugins)[1]
    of_model = {field.name for field in attrs.fields(type(model_config)) if field.init}
    known = (*of_run, *of_source, *of_model)
    for field in changes:
        if field not in known:
            hint = f"; did you mean {close!r}?" if (close := nearest(field, known)) else ""
            raise ConfigError(f"neither TrainConfig, Source nor {type(model_config).__name__} has {field!r}{hint}")
    of_each = {field: [value] for field, value in changes.items() if field in of_source}
    of_each["embodiment"] = _several(embodiment)
    run = {field: value for field, value in changes.items() if field in of_run}
    if data:
        run["sources"] = fill(config.sources, _several(data), of_each, name=name)
    elif of_each.pop("embodiment") or of_each:
        raise ConfigError(f"recipe {name!r}: {', '.join(of_each) or 'embodiment'} belongs to data; give data as well")
    options = {field: value for field, value in changes.items() if field in of_model - of_run - of_source}
    if options:
        run["model_options"] = {**run.get("model_options", {}), **options}
    return change(config, run, where=f"recipe {name!r}")


def change(config: TrainConfig, changes: Mapping[str, Any], *, where: str) -> TrainConfig:
    """`config` with changed fields, dotted or not.

    What it says about weights goes with them (`init: scratch`), and statistics with the robots that they are of.
    """
    if changes.get("init") == "scratch":
        changes = {"init_also": [], "init_fresh": [], "init_resize": False, **changes}
    if "sources" in changes:
        robots = {source.embodiment for source in changes["sources"]}
        config = attrs.evolve(config, stats={name: place for name, place in config.stats.items() if name in robots})
    return override(config, changes, where=where) if changes else config


def fill(
    own: Sequence[Source], data: Sequence[str], given: Mapping[str, Sequence[Any]], *, name: str, **shared: Any
) -> list[Source]:
    """One source per dataset of `data`.

    `given` are values for each of them, or, but for weights, a single one for all; `shared` is for all. Without
    embodiments, the datasets take the places of a recipe's `own` sources, which keep what else they say.
    """
    fields: dict[str, Sequence[Any]] = {}
    for field, values in given.items():
        if len(values) == 1 and field != "weight":  # one weight for all says nothing
            values = [values[0]] * len(data)
        if values and len(values) != len(data):
            raise ConfigError(f"{len(data)} times --data but {len(values)} times --{field}; give one for each")
        if values:
            fields[field] = values
    each = [{**{field: fields[field][i] for field in fields}, **shared} for i in range(len(data))]
    if "embodiment" in fields:
        return [Source(data=place, **more) for place, more in zip(data, each, strict=True)]
    if not own:
        raise ConfigError("which robot made the data? give --embodiment NAME (see `fla embodiments`)")
    if len(own) != len(data):
        known = ", ".join(source.blank or source.data for source in own)
        raise ConfigError(
            f"{name} has {len(own)} datasets ({known}), but --data was given {len(data)} times; give one for each, in "
            "this order, or --embodiment for data of your own"
        )
    return [
        attrs.evolve(source, data=_instead(source, place), **more)
        for source, place, more in zip(own, data, each, strict=True)
    ]


def _instead(old: Source, new: str) -> str:
    """`new`, to be read as the blank `old` says, unless it says so itself."""
    query = old.data.partition("?")[2] if old.blank and "?" not in new else ""
    return f"{new}?{query}" if query else new


def _several(one: str | Sequence[str]) -> list[str]:
    return [one] if isinstance(one, str) else list(one)
