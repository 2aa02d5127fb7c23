"""`Trainer`: a config in, a checkpoint out."""

import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.config import unstructure
from fla_sdk.errors import CheckpointError, ConfigError, FlaError, UnknownNameError
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.frames import cache_frames
from fla_sdk.training.preparation import Preparation, prepare


@attrs.frozen(kw_only=True)
class TrainResult:
    """What `fit` leaves behind."""

    checkpoint: Path
    step: int
    interrupted: bool = False
    """Ctrl-C or SIGTERM arrived; the checkpoint holds everything up to `step`."""


class NonFiniteLoss(FlaError):
    """The loss became infinite or not a number; nothing after the last checkpoint is worth keeping."""


class Trainer:
    """Trains one model on a mixture of embodiments.

    Everything is checked when the trainer is built: names, datasets, shapes and statistics. `fit` then only trains.
    """

    def __init__(self, config: TrainConfig, *, plugins: Registry | None = None) -> None:
        self.config = config
        self.plugins = load_plugins() if plugins is None else plugins
        self.prepared: Preparation = prepare(config, self.plugins)

    def fit(self, *, resume: bool = False, overwrite: bool = False) -> TrainResult:
        """Train to `config.steps` and return the last checkpoint.

        A run folder that already holds checkpoints is refused unless `resume` (continue with the very next batch) or
        `overwrite` (delete them first). Ctrl-C and SIGTERM end the run after the current step, with a checkpoint.
        """
        run = self.config.out
        checkpoints = run / "checkpoints"
        present = checkpoint.steps(checkpoints)
        if present and resume and overwrite:
            raise ConfigError("resume and overwrite exclude each other")
        if present and not (resume or overwrite):
            raise ConfigError(
                f"{run} already holds a run (checkpoints at steps {', '.join(map(str, present))}); "
                "resume it with --resume, delete it with --overwrite, or choose another --out"
            )
        if overwrite:
            shutil.rmtree(checkpoints, ignore_errors=True)
            (run / "metrics.jsonl").unlink(missing_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        newest = checkpoints / str(present[-1]) if present and resume else None
        config, prepared = cache_frames(self.config, self.prepared, newest=newest)
        return _Run(config, self.plugins, prepared).train(newest)


class _Run:
    """One call of `fit`: the state that lives while it trains."""

    def __init__(self, config: TrainConfig, plugins: Registry, prepared: Preparation) -> None:
        from fla_sdk.data.mixture import Mixture

        self.config, self.plugins, self.prepared = config, plugins, prepared
        self.folder = config.out / "checkpoints"
        self.mixture = Mixture(
            prepared.parts,
            batch_size=config.batch_size,
            seed=config.seed,
            sampling=config.sampling,
            temperature=config.temperature,
            batches=config.batches,
            threads=config.loader_threads,
            loss_dims=config.loss_dims,
        )

    def train(self, newest: Path | None) -> TrainResult:
        import jax

        from fla_sdk.policy import parameters
        from fla_sdk.training import mesh as meshes
        from fla_sdk.training.optimizer import make_optimizer
        from fla_sdk.training.step import init_state, train_step

        config, plugins = self.config, self.plugins
        mesh = meshes.make_mesh(fsdp_devices=config.fsdp_devices, batch_size=config.batch_size)

        # --- Model ------------------------------------------------------------------------------------------------

        family, model_config = self.prepared.family, self.prepared.model_config
        # A regularizer measures from where the run began, also when it resumes.
        if config.init != "scratch" and (newest is None or config.regularizers):
            graph, flat = self._initial()
        else:
            graph, flat = parameters.initialise(lambda: family.build(model_config, config.seed))
        groups = {path: self.prepared.family.group(path) for path in flat}
        for name in config.freeze:
            if name not in groups.values():
                raise UnknownNameError("parameter group to freeze", name, set(groups.values()))
        frozen = {path: value for path, value in flat.items() if groups[path] in config.freeze}
        params = {path: value for path, value in flat.items() if path not in frozen}
        if not params:
            raise ConfigError(f"nothing is left to train: freeze covers every group ({', '.join(config.freeze)})")

        # --- Optimizer and state ----------------------------------------------------------------------------------

        optimizer, schedule = make_optimizer(config.optimizer)
        penalties = [self._penalty(name.name, name.strength, params) for name in config.regularizers]
        state = init_state(params, frozen, optimizer=optimizer, ema=config.ema_decay is not None)
        if newest is not None:
            state = self._resume(state, newest)
        shardings, rows = meshes.state_shardings(mesh, state), meshes.batch_sharding(mesh)
        state = jax.device_put(state, shardings)
        step = jax.jit(
            functools.partial(
                train_step,
                graph=graph,
                optimizer=optimizer,
                schedule=schedule,
                ema_decay=config.ema_decay,
                penalties=penalties,
            ),
            in_shardings=(shardings, rows, meshes.whole(mesh)),
            out_shardings=(shardings, meshes.whole(mesh)),
            donate_argnums=0,
        )
        rng = jax.random.key(config.seed)

        # --- Training ---------------------------------------------------------------------------------------------

        start = done = int(state.step)
        path = newest
        reason = "failed"
        with ExitStack() as stack:
            trackers = [plugins.tracker(name).open(config.out, unstructure(config)) for name in config.trackers]
            for tracker in trackers:
                stack.callback(tracker.close)
            stop = stack.enter_context(_stop_signals())
            plugins.train_started(config=config, run_dir=config.out, step=start)
            try:
                window: list[Mapping[str, Any]] = []
                begun = time.monotonic()
                while done < config.steps and not stop:
                    state, metrics = step(state, jax.device_put(next(self.mixture), rows), rng)
                    done += 1
                    window.append(metrics)
                    report: dict[str, float] = {}
                    saving = done % config.save_every == 0
                    # Also before a checkpoint: it must not replace good ones when the loss is not finite any more, and
                    # a resumed run must not average over steps that it did not see.
                    if done % config.log_every == 0 or saving or done == config.steps:
                        report = _means(jax.device_get(window))
                        report["steps_per_second"] = len(window) / (time.monotonic() - begun)
                        window, begun = [], time.monotonic()
                        self._refuse_non_finite(report, done)
                        for tracker in trackers:
                            tracker.log(done, report)
                    plugins.step_ended(step=done, total=config.steps, metrics=report)
                    if saving and done < config.steps:
                        path = self._save(state, done)
                if window:
                    self._refuse_non_finite(_means(jax.device_get(window)), done)
                if path is None or done > start:
                    path = self._save(state, done)
                reason = "interrupted" if done < config.steps else "finished"
            finally:
                plugins.train_ended(step=done, reason=reason)
        return TrainResult(checkpoint=path, step=done, interrupted=reason == "interrupted")

    def _refuse_non_finite(self, report: Mapping[str, float], step: int) -> None:
        if not all(abs(report[name]) < float("inf") for name in ("loss", "penalty", "grad_norm")):
            kept = checkpoint.steps(self.folder)
            raise NonFiniteLoss(
                f"the loss is not finite at step {step} (loss {report['loss']}, gradient norm {report['grad_norm']}); "
                f"lower optimizer.peak_lr or check the data. Checkpoints kept: {', '.join(map(str, kept)) or 'none'}"
            )

    def _penalty(self, name: str, strength: float, params: Any) -> Any:
        regularizer = self.plugins.regularizer(name)
        kept = regularizer.prepare(params)
        return lambda current: strength * regularizer.penalty(current, kept)

    def _initial(self) -> tuple[Any, dict[str, Any]]:
        """The model around the parameters of `config.init`; prints what became of each of them."""
        from fla_sdk.policy import weights
        from fla_sdk.policy.fetch import fetch

        config = self.config
        graph, flat, report = weights.load(
            [fetch(place) for place in (config.init, *config.init_also)],
            self.prepared.family,
            self.prepared.model_config,
            seed=config.seed,
            model=config.model,
            registry=self.plugins,
            fresh=config.init_fresh,
            resize=config.init_resize,
        )
        print(report, flush=True)
        return graph, flat

    # --- Checkpoints ---

    def _save(self, state: Any, step: int) -> Path:
        served = dict(state.params if state.ema is None else state.ema) | dict(state.frozen)
        train_state = {"step": state.step, "opt_state": state.opt_state}
        if state.ema is not None:  # otherwise params/ already holds them
            train_state["params"] = state.params
        family, config = self.prepared.family, self.prepared.model_config
        path = checkpoint.write(
            self.folder,
            manifest=self._manifest(step, tuple(state.params)),
            params=served,
            stats=self.prepared.stats,
            train_state=train_state,
            keep_files=None if (keep := family.keep_files) is None else lambda folder: keep(config, folder),
        )
        for old in checkpoint.steps(self.folder)[: -self.config.keep_last]:
            shutil.rmtree(self.folder / str(old))
        self.plugins.checkpoint_saved(step=step, path=path)
        return path

    def _manifest(self, step: int, trainable: tuple[str, ...]) -> checkpoint.Manifest:
        return checkpoint.Manifest(
            family=self.prepared.family.name,
            variant=self.config.model.split("/", 1)[1],
            model=unstructure(self.prepared.model_config),
            embodiments={name: checkpoint.describe(codec.embodiment) for name, codec in self.prepared.codecs.items()},
            step=step,
            trainable=trainable if self.config.freeze else (),
            train=unstructure(self.config),
            sampler=self.mixture.state,
            plugins=tuple(sorted({f"{p.distribution} {p.version}" for p in self.plugins.plugins if not p.error})),
            versions=_versions(),
            git=_git_state(),
        )

    def _refuse_other_run(self, manifest: checkpoint.Manifest, trainable: tuple[str, ...], path: Path) -> None:
        """Raise `CheckpointError` when the saved state is of another model, other robots or other parameters."""
        model, saved_ema = unstructure(self.prepared.model_config), manifest.train.get("ema_decay")
        if manifest.model != model:
            differing = [name for name in model if manifest.model.get(name) != model[name]]
            both = "; ".join(f"{name}: saved {manifest.model.get(name)!r}, now {model[name]!r}" for name in differing)
            raise CheckpointError(f"{path} was made with another model config ({both}); resume with the same one")
        if set(manifest.embodiments) != set(self.prepared.stats):
            raise CheckpointError(
                f"{path} was trained for {', '.join(manifest.embodiments)}, this run is for "
                f"{', '.join(self.prepared.stats)}; start a new run from it with --init {path}"
            )
        if manifest.trainable != (trainable if self.config.freeze else ()):
            raise CheckpointError(
                f"{path} was trained with freeze {manifest.train.get('freeze')}, this run has "
                f"{list(self.config.freeze)}; start a new run from it with --init {path}"
            )
        if (saved_ema is None) != (self.config.ema_decay is None):
            raise CheckpointError(
                f"{path} was trained with ema_decay {saved_ema}, this run has {self.config.ema_decay}; one of them has "
                "no moving average to continue"
            )

    def _resume(self, state: Any, path: Path) -> Any:
        """The state saved in `path`, and the mixture set to the batch after it."""
        import jax

        from fla_sdk.policy import parameters

        manifest = checkpoint.read_manifest(path)
        self._refuse_other_run(manifest, tuple(state.params), path)
        for name, stats in self.prepared.stats.items():
            saved = checkpoint.read_stats(path, name).fingerprint
            if saved != stats.fingerprint:
                raise CheckpointError(
                    f"{path}: the data of embodiment {name!r} changed since this run began (statistics {saved}, now "
                    f"{stats.fingerprint}); start a new run from it with --init {path}"
                )
        target = {"step": state.step, "opt_state": state.opt_state}
        if state.ema is not None:
            target["params"] = state.params
        saved = checkpoint.restore(path / "train_state", target=target)
        served = checkpoint.read_params(path)
        parameters.check(served, {**state.params, **state.frozen}, where=str(path))
        trained = {name: jax.numpy.asarray(served[name]) for name in state.params}
        self.mixture.restore(dict(manifest.sampler))
        return state._replace(
            step=saved["step"],
            params=saved.get("params", trained),
            frozen={name: jax.numpy.asarray(served[name]) for name in state.frozen},
            opt_state=saved["opt_state"],
            ema=None if state.ema is None else trained,
        )


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that becomes non-empty at the first SIGINT or SIGTERM; a second one interrupts at once."""
    caught: list[int] = []

    def remember(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever owns it handles signals
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _means(window: list[Mapping[str, Any]]) -> dict[str, float]:
    return {name: float(sum(float(m[name]) for m in window) / len(window)) for name in window[0]}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("fla-sdk", "jax", "flax", "optax", "orbax-checkpoint", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_state() -> str | None:
    """`<commit>` or `<commit>-dirty` of the folder the run was started in; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, cwd=os.getcwd())
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
