"""What EWC, SI and MAS share: half the squared distance to where a run began, weighted by importance.

They differ in how the importance of a parameter is found. `fla fisher` finds that of EWC and MAS (`importance.py`), SI
finds its own while it trains (`si.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.config import structure
from fla_sdk.errors import ConfigError, nearest


@attrs.frozen(kw_only=True)
class Options:
    """What the config may say beside the strength."""

    importance: str | None = None
    """A file; null is `importance/<regularizer>.safetensors` in the checkpoint that the run starts from."""


def prepare(name: str, beginning: fla.Beginning) -> Any:
    """`anchor` and `importance`, each path -> float32 array."""
    options = structure(beginning.options, Options, where=f"options of regularizer {name!r}")
    return anchored(beginning, zeros(beginning) if beginning.resumes else importance(name, beginning, options))


def anchored(beginning: fla.Beginning, importance: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    import jax.numpy as jnp

    # A copy: the parameters are donated to the first step.
    anchor = {path: jnp.array(leaf, jnp.float32, copy=True) for path, leaf in beginning.params.items()}
    return {"anchor": anchor, "importance": dict(importance)}


def zeros(beginning: fla.Beginning) -> dict[str, Any]:
    import jax.numpy as jnp

    return {path: jnp.zeros(leaf.shape, jnp.float32) for path, leaf in beginning.params.items()}


def penalty(params: Any, carried: Any, moment: Any) -> Any:
    """Scalar: 0.5 * sum(importance * (params - anchor)^2). Kirkpatrick et al., arXiv:1612.00796, equation 3."""
    import jax.numpy as jnp

    del moment
    terms = (
        jnp.sum(carried["importance"][path] * jnp.square(leaf.astype(jnp.float32) - carried["anchor"][path]))
        for path, leaf in params.items()
    )
    return 0.5 * sum(terms, jnp.zeros(()))


def importance(name: str, beginning: fla.Beginning, options: Options) -> dict[str, Any]:
    """Those of the trainable parameters, from the file. Raises `ConfigError` when it is missing or of another model."""
    import jax.numpy as jnp

    file = _file(name, beginning, options)
    found = read(file, beginning.params)
    return {path: jnp.asarray(found[path], jnp.float32) for path in beginning.params}


def read(file: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """The importances of `params` in `file`. Raises `ConfigError` with both sides when they do not fit."""
    from fla_sdk.policy.checkpoint import read_importance

    found = read_importance(file)
    problems: list[str] = []
    for path, leaf in sorted(params.items()):
        if path not in found:
            close = nearest(path, found)
            problems.append(f"{path} {tuple(leaf.shape)} is missing" + (f" (it has {close})" if close else ""))
        elif tuple(found[path].shape) != tuple(leaf.shape):
            problems.append(f"{path} is {tuple(found[path].shape)} in the file, {tuple(leaf.shape)} in the model")
    if problems:
        shown = "\n  ".join(problems[:8])
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ConfigError(
            f"{file} does not have the importances of the {len(params)} parameters that are trained; was it made with "
            f"another model, or another `freeze`?\n  {shown}{more}"
        )
    return {path: found[path] for path in params}


def _file(name: str, beginning: fla.Beginning, options: Options) -> Path:
    if options.importance is None and beginning.checkpoint is None:
        raise ConfigError(
            f"regularizer {name!r} protects what a checkpoint has learned, but this run starts from none: give one "
            "with --init, or its option importance: FILE"
        )
    folder = beginning.checkpoint or Path("CHECKPOINT")
    file = folder / "importance" / f"{name}.safetensors"
    if options.importance is not None:
        file = Path(options.importance).expanduser()
    if file.is_file():
        return file
    how = f"make it with `fla fisher {folder} --kind {name} --data DIR --embodiment NAME`"
    if name == "si":
        how = "it comes with a checkpoint that was trained with si; its option importance: none begins without any"
    raise ConfigError(f"regularizer {name!r}: there is no {file}; {how}")
