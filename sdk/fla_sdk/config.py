"""Records to plain values and back: one strict cattrs converter, owned by the SDK and never the global one.

Nothing is coerced: `"7"` is not 7 and a string is not a list. Unknown keys are refused with the nearest known one.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import cattrs
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn

from fla_sdk.errors import ConfigError, nearest

T = TypeVar("T")


def _strict(kind: type, accepted: tuple[type, ...]) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"expected {kind.__name__}, got {value!r} ({type(value).__name__})")
        return kind(value)

    return structure


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(int, _strict(int, (int,)))
    converter.register_structure_hook(float, _strict(float, (int, float)))
    converter.register_structure_hook(str, _strict(str, (str,)))
    converter.register_structure_hook(bool, _strict(bool, (bool,)))
    converter.register_structure_hook(Path, lambda value, _: Path(_strict(str, (str, Path))(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook_func(lambda t: t is Any, lambda value, _: value)

    def record(cls: type) -> Any:
        inner: Callable[..., Any] = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)  # pyright: ignore

        def structure(value: Any, t: Any) -> Any:
            if isinstance(value, cls):
                return value
            if not isinstance(value, Mapping):
                raise ConfigError(f"expected the fields of {cls.__name__}, got {value!r}")
            refuse_unknown(cast("Mapping[str, Any]", value), cls)
            return inner(value, t)

        return structure

    converter.register_structure_hook_factory(attrs.has, record)
    # A bare string is a sequence of letters to Python; in a config it is a mistake.
    converter.register_structure_hook_factory(_is_sequence, partial(_sequence_hook, converter))
    return converter


def _is_sequence(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) in (tuple, list, Sequence)


def _sequence_hook(converter: cattrs.Converter, kind: Any) -> Any:
    arguments = kind.__args__
    fixed = kind.__origin__ is tuple and Ellipsis not in arguments
    build = cast("Callable[..., Any]", list if kind.__origin__ is list else tuple)

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"expected a list, got {value!r}")
        items = cast("Sequence[Any]", value)
        if fixed and len(items) != len(arguments):
            raise ConfigError(f"expected {len(arguments)} values, got {len(items)}: {value!r}")
        types: list[Any] = list(arguments) if fixed else [arguments[0]] * len(items)
        return build(converter.structure(item, t) for item, t in zip(items, types, strict=True))

    return structure


def refuse_unknown(value: Mapping[str, Any], cls: type) -> None:
    """Raise `ConfigError` for keys that the record does not have, offering the nearest."""
    known = [a.name for a in attrs.fields(cls) if a.init]
    for key in value:
        if key not in known:
            hint = f"; did you mean {close!r}?" if (close := nearest(str(key), known)) else ""
            raise ConfigError(f"{cls.__name__} has no field {key!r}{hint} (fields: {', '.join(known)})")


_CONVERTER = _converter()


def structure(value: Any, cls: type[T], *, where: str = "config") -> T:
    """Plain values -> record. Raises `ConfigError` with the path of what is wrong."""
    try:
        return _CONVERTER.structure(value, cls)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{where}: {'; '.join(_messages(error))}") from error


def _messages(error: BaseException) -> list[str]:
    """The innermost reasons, each with its place."""
    if isinstance(error, BaseValidationError):
        found: list[str] = []
        for inner in cast("Sequence[BaseException]", error.exceptions):
            notes = [n for n in getattr(inner, "__notes__", []) if "attribute" in str(n)]
            place = str(notes[0]).rsplit(" ", 1)[-1] if notes else ""
            found += [f"{place}.{m}".replace(".: ", ": ") if place else m for m in _messages(inner)]
        return found
    return [f": {error}" if str(error) else f": {type(error).__name__}"]


def unstructure(record: Any) -> Any:
    """Record -> plain values that YAML and JSON can hold."""
    return _plain(_CONVERTER.unstructure(record))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in cast("Sequence[Any]", value)]
    return value


def override(record: T, changes: Mapping[str, Any], *, where: str = "override") -> T:
    """A copy of `record` with nested fields replaced: `{"optimizer.peak_lr": 1e-4}` or `{"optimizer": {...}}`.

    In a field that holds options of something else, such as `model_options`, the rest of the path is one name.
    """
    tree = unstructure(record)
    free = {field.name for field in attrs.fields(type(record)) if getattr(field.type, "__origin__", None) is Mapping}  # pyright: ignore[reportArgumentType]
    for path, value in changes.items():
        *parents, last = path.split(".")
        if parents and parents[0] in free:
            parents, last = parents[:1], path.split(".", 1)[1]
        node = tree
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                raise ConfigError(f"{where}: {path!r}: {parent!r} has no fields (known here: {', '.join(node)})")
            node = node[parent]
        if isinstance(value, Mapping) and isinstance(node.get(last), dict):
            node[last] = {**node[last], **cast("Mapping[str, Any]", value)}
        else:
            node[last] = value
    return structure(tree, type(record), where=where)
