"""Going on with a run: what may be different from when it was saved, and what may not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from fla_sdk.config import unstructure
from fla_sdk.errors import CheckpointError
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.preparation import Preparation
from fla_sdk.training.step import TrainState

FREE = frozenset(
    {
        *("out", "steps", "trackers", "log_every", "save_every", "keep_last", "keep_period"),
        *("validate_every", "validate_batches", "evaluate", "evaluate_every", "evaluate_episodes"),
        *("loader_threads", "frame_cache", "samples_per_second"),
        *("skip_episodes", "skip_steps", "fsdp_devices", "accumulate"),
    }
)
"""Fields of a config that may change: the numbers of the run do not depend on them."""


def refuse_other_run(
    manifest: checkpoint.Manifest, config: TrainConfig, prepared: Preparation, trainable: tuple[str, ...], *, path: Path
) -> None:
    """Raise `CheckpointError` when the saved state is of another model, other robots or other parameters."""
    model, saved_ema = unstructure(prepared.model_config), manifest.train.get("ema_decay")
    if manifest.model != model:
        differing = [name for name in model if manifest.model.get(name) != model[name]]
        both = "; ".join(f"{name}: saved {manifest.model.get(name)!r}, now {model[name]!r}" for name in differing)
        raise CheckpointError(f"{path} was made with another model config ({both}); resume with the same one")
    if set(manifest.embodiments) != set(prepared.stats):
        raise CheckpointError(
            f"{path} was trained for {', '.join(manifest.embodiments)}, this run is for "
            f"{', '.join(prepared.stats)}; start a new run from it with --init {path}"
        )
    if manifest.trainable != (trainable if config.freeze else ()):
        raise CheckpointError(
            f"{path} was trained with freeze {manifest.train.get('freeze')}, this run has "
            f"{list(config.freeze)}; start a new run from it with --init {path}"
        )
    if (saved_ema is None) != (config.ema_decay is None):
        raise CheckpointError(
            f"{path} was trained with ema_decay {saved_ema}, this run has {config.ema_decay}; one of them has "
            "no moving average to continue"
        )


def changes(
    manifest: checkpoint.Manifest, config: TrainConfig, prepared: Preparation, plugins: Sequence[str], *, path: Path
) -> list[str]:
    """What is different from when the checkpoint was made, and changes the numbers; a line each, both sides."""
    found: list[str] = []
    now: Mapping[str, Any] = unstructure(config)
    for name, saved in manifest.train.items():
        if name in now and name not in FREE and saved != now[name]:
            found.append(f"{name}: saved {saved!r}, now {now[name]!r}")
    for name, stats in prepared.stats.items():
        saved = checkpoint.read_stats(path, name)
        if saved.fingerprint != stats.fingerprint:
            found.append(
                f"data of embodiment {name!r}: saved {saved.count} samples (statistics {saved.fingerprint}), now "
                f"{stats.count} ({stats.fingerprint}); `--stats {name}={path}` keeps the saved statistics"
            )
    gone, come = sorted(set(manifest.plugins) - set(plugins)), sorted(set(plugins) - set(manifest.plugins))
    if gone or come:
        found.append(f"plugins: saved {', '.join(gone) or 'none others'}, now {', '.join(come) or 'none others'}")
    return found


def restore(state: TrainState, path: Path) -> TrainState:
    """`state` with all that the checkpoint saved. Raises `DamagedCheckpoint` when it cannot be read."""
    target: dict[str, Any] = {"step": state.step, "opt_state": state.opt_state}
    if state.ema is not None:
        target["params"] = state.params
    if state.penalties:
        target["penalties"] = list(state.penalties)
    saved = checkpoint.restore(path / "train_state", target=target)
    served = checkpoint.read_params(path)
    parameters.check(served, {**state.params, **state.frozen}, where=str(path))
    trained = {name: jnp.asarray(served[name]) for name in state.params}
    return state._replace(
        step=saved["step"],
        params=saved.get("params", trained),
        frozen={name: jnp.asarray(served[name], leaf.dtype) for name, leaf in state.frozen.items()},
        opt_state=saved["opt_state"],
        ema=None if state.ema is None else trained,
        penalties=tuple(saved.get("penalties", ())),
    )
