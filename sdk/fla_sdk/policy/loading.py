"""Parameters from elsewhere into a model: what fits, what may begin anew, and a report of both. Nothing is silent."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import attrs
import numpy as np

from fla_sdk.errors import CheckpointError, UnknownNameError
from fla_sdk.model import Array
from fla_sdk.policy.parameters import Flat

Fate = Literal["loaded", "resized", "initialised", "ignored"]
FATES: tuple[Fate, ...] = ("loaded", "resized", "initialised", "ignored")


@attrs.frozen(kw_only=True)
class Leaf:
    """What becomes of one parameter."""

    path: str
    group: str
    fate: Fate
    """`loaded`; `resized` to another action width; `initialised` because the source has none; `ignored` because the
    model has none."""

    shape: tuple[int, ...]
    """In the model; of an ignored one in the source."""

    given: tuple[int, ...] | None = None
    """In the source."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@attrs.frozen(kw_only=True)
class LoadReport:
    """What became of every parameter of a source and of a model. As text: a table by groups, then the exceptions."""

    where: str
    model: str
    leaves: tuple[Leaf, ...]

    def of(self, fate: Fate) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.leaves if leaf.fate == fate)

    def counts(self, group: str | None, fate: Fate) -> tuple[int, int]:
        """How many leaves and how many numbers; `None` is all groups."""
        chosen = [leaf for leaf in self.of(fate) if group in (None, leaf.group)]
        return len(chosen), sum(leaf.size for leaf in chosen)

    def __str__(self) -> str:
        groups = sorted({leaf.group for leaf in self.leaves})
        fates: list[Fate] = [fate for fate in FATES if self.of(fate)]
        rows: list[list[str]] = [["", *fates]]
        for group in (*groups, None):
            cells = (self.counts(group, fate) for fate in fates)
            rows.append([group or "all", *(f"{size:,} in {leaves}" if leaves else "-" for leaves, size in cells)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"parameters of {self.model} from {self.where}"]
        lines += ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        for leaf in self.leaves:
            if leaf.fate == "resized":
                lines.append(f"  resized      {leaf.path}: {leaf.given} to {leaf.shape}")
            elif leaf.fate != "loaded":
                lines.append(f"  {leaf.fate:11}  {leaf.path} {leaf.shape}")
        return "\n".join(lines)


def plan(
    expected: Mapping[str, Array],
    given: Mapping[str, Array],
    *,
    group: Callable[[str], str],
    fresh: Collection[str] = (),
    resize: bool = False,
    where: str,
    model: str = "the model",
) -> LoadReport:
    """What `fill` would do; only shapes are looked at. Raises `CheckpointError` when it would refuse."""
    groups = {group(path) for path in expected}
    patterns = [name for name in fresh if "/" in name]
    for name in fresh:
        if name in patterns and not any(fnmatchcase(path, name) for path in expected):
            raise UnknownNameError("parameter to start anew", name, expected)
        if name not in patterns and name not in groups:
            raise UnknownNameError("parameter group to start anew", name, groups)
    anew = {path for path in expected if any(fnmatchcase(path, pattern) for pattern in patterns)}
    widths = _widths(expected, given, group=group) if resize else {}
    leaves: list[Leaf] = []
    misshapen: list[str] = []
    for path in sorted(expected.keys() | given.keys()):
        ours = tuple(expected[path].shape) if path in expected else None
        theirs = tuple(given[path].shape) if path in given else None
        fate: Fate = "loaded"
        if ours is None:
            fate = "ignored"
        elif theirs is None or path in anew:
            fate = "initialised"
        elif ours != theirs:
            fate = "resized"
            if path not in widths:
                misshapen.append(path)
        shape = theirs if ours is None else ours
        assert shape is not None
        leaves.append(Leaf(path=path, group=group(path), fate=fate, shape=shape, given=theirs))
    report = LoadReport(where=where, model=model, leaves=tuple(leaves))
    if problems := [*_unused(report), *_missing(report, fresh, anew), *_misshapen(report, misshapen, resize=resize)]:
        raise CheckpointError("\n  ".join([f"{where} does not fit {model}:", *problems]))
    return report


def fill(
    initial: Mapping[str, Array],
    given: Mapping[str, Array],
    *,
    group: Callable[[str], str],
    fresh: Collection[str] = (),
    resize: bool = False,
    where: str,
    model: str = "the model",
) -> tuple[Flat, LoadReport]:
    """The parameters of `given` in the places and types of `initial`, and what became of each.

    Parameters that `given` lacks keep their initial value in the groups of `fresh`, and are an error elsewhere: nobody
    asked for a model that is random in parts. `fresh` may also have patterns of paths, such as `PaliGemma/img/head/*`:
    what they match begins anew whatever `given` has. With `resize`, projections of another action width are cut or
    padded with zeros. Parameters that `initial` lacks are ignored, unless they are all that `given` has of a group.
    `group` is that of the `ModelFamily`; `where` and `model` name both sides in errors.
    """
    report = plan(initial, given, group=group, fresh=fresh, resize=resize, where=where, model=model)
    flat: Flat = {}
    for leaf in report.leaves:
        if leaf.fate == "initialised":
            flat[leaf.path] = initial[leaf.path]
        elif leaf.fate != "ignored":
            values = np.asarray(given[leaf.path])
            resized = values if leaf.fate == "loaded" else _resized(values, leaf.shape)
            flat[leaf.path] = resized.astype(initial[leaf.path].dtype, copy=False)
    return flat, report


def _resized(values: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    out = np.zeros(shape, values.dtype)
    common = tuple(slice(min(sizes)) for sizes in zip(values.shape, shape, strict=True))
    out[common] = values[common]
    return out


def _widths(
    expected: Mapping[str, Array], given: Mapping[str, Array], *, group: Callable[[str], str]
) -> dict[str, tuple[int, int]]:
    """Projections that differ along one axis, by the same two widths all of them: path -> those widths."""
    changes: dict[str, tuple[int, int]] = {}
    for path in expected.keys() & given.keys():
        theirs, ours = tuple(given[path].shape), tuple(expected[path].shape)
        if group(path) != "projections" or len(theirs) != len(ours):
            continue
        differing = [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b]
        if len(differing) == 1:
            changes[path] = differing[0]
    return changes if len(set(changes.values())) == 1 else {}


# --- What is wrong ----------------------------------------------------------------------------------------------------


def _unused(report: LoadReport) -> Iterator[str]:
    """Groups of the source of which the model takes nothing."""
    used = {leaf.group for leaf in (*report.of("loaded"), *report.of("resized"))}
    ignored = report.of("ignored")
    for group in sorted({leaf.group for leaf in ignored} - used):
        paths = [leaf.path for leaf in ignored if leaf.group == group]
        hint = ""
        if group == "lora":
            hint = "; choose a variant with adapters, or merge them first (fla export --merge-lora)"
        yield f"{group}: {report.model} has no place for all {len(paths)} of the source ({_some(paths)}){hint}"


def _missing(report: LoadReport, fresh: Collection[str], anew: Collection[str]) -> Iterator[str]:
    if used := {leaf.group for leaf in report.leaves if leaf.given is not None}:
        missing = [leaf for leaf in report.of("initialised") if leaf.group not in fresh and leaf.path not in anew]
        if used == {"lora"} and missing:
            yield "lora: adapters alone mean nothing; they need the base that they were trained with"
        for group in sorted({leaf.group for leaf in missing}):
            paths = [leaf.path for leaf in missing if leaf.group == group]
            of = sum(leaf.group == group and leaf.fate != "ignored" for leaf in report.leaves)
            yield (
                f"{group}: {len(paths)} of {of} are missing ({_some(paths)}); if they are to start anew, "
                f"give --init-fresh {group}"
            )
    else:
        yield "it holds no parameters"


def _misshapen(report: LoadReport, paths: Collection[str], *, resize: bool) -> Iterator[str]:
    shown = 8
    wrong = [leaf for leaf in report.leaves if leaf.path in paths]
    for leaf in wrong[:shown]:
        yield f"{leaf.group}: {leaf.path} is {leaf.given}, {report.model} has {leaf.shape}"
    if len(wrong) > shown:
        yield f"and {len(wrong) - shown} more of another shape"
    if wrong and not resize and all(leaf.group == "projections" for leaf in wrong):
        yield "if only the width of actions differs, --init-resize cuts it or pads it with zeros"


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
