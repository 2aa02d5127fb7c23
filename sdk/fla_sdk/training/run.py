"""`Run`: one call of `Trainer.fit`, from the model to the last checkpoint."""

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from fla_sdk.config import unstructure
from fla_sdk.data.mixture import Mixture
from fla_sdk.errors import CheckpointError
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.policy import checkpoint, parameters, weights
from fla_sdk.policy.fetch import fetch
from fla_sdk.policy.parameters import Flat
from fla_sdk.records import Beginning, Regularizer
from fla_sdk.training import hosts
from fla_sdk.training import mesh as meshes
from fla_sdk.training.closed_loop import ClosedLoop
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.feed import Feed, Served
from fla_sdk.training.freezing import divide
from fla_sdk.training.optimizer import make_optimizer
from fla_sdk.training.pictures import Picture, chunks, samples
from fla_sdk.training.preparation import Preparation
from fla_sdk.training.reports import Reports
from fla_sdk.training.resuming import changes, refuse_other_run, restore
from fla_sdk.training.saving import Saver
from fla_sdk.training.step import Penalty, Robots, TrainState, init_state, train_step
from fla_sdk.training.trackers import Trackers
from fla_sdk.training.validation import Validation


class Run:
    """The state that lives while a model trains."""

    def __init__(
        self,
        config: TrainConfig,
        plugins: Registry,
        prepared: Preparation,
        *,
        closed_loop: ClosedLoop | None = None,
        accept_changes: bool = False,
    ) -> None:
        """Raises `ConfigError` when devices, batch and freezing do not go together.

        `closed_loop` is what `config.evaluate` names. `accept_changes` goes on from a checkpoint that was made with
        other settings, data or plugins.
        """
        self.config, self.plugins, self.prepared = config, plugins, prepared
        self.closed_loop, self.accept_changes = closed_loop, accept_changes
        self.folder = config.out / "checkpoints"
        self.mesh = meshes.make_mesh(fsdp_devices=config.fsdp_devices, batch_size=config.batch_size)
        self.mixture = Mixture(
            prepared.parts,
            batch_size=config.batch_size,
            seed=config.seed,
            sampling=config.sampling,
            temperature=config.temperature,
            batches=config.batches,
            process=(jax.process_index(), jax.process_count()),
            threads=config.loader_threads,
            loss_dims=config.loss_dims,
        )
        self.saver = Saver(self.folder, keep_last=config.keep_last, keep_period=config.keep_period, tell=_tell)

    def train(self, resume_from: Sequence[Path]) -> tuple[Path, int, int | None]:
        """The last checkpoint, the step, and the signal that ended the run early, if one did.

        `resume_from` are this run's checkpoints, newest first; none to begin.
        """
        config, plugins = self.config, self.plugins

        # --- Model ------------------------------------------------------------------------------------------------

        graph, flat = self._initial(scratch=bool(resume_from))
        params, frozen = divide(config, self.prepared.family, self.prepared.spec, flat)
        groups = {path: self.prepared.family.group(path) for path in flat}

        # --- Optimizer and state ----------------------------------------------------------------------------------

        optimizer, schedule = make_optimizer(config.optimizer)
        regularizers = [plugins.regularizer(one.name) for one in config.regularizers]
        carried = self._carried(regularizers, params, begun=bool(resume_from))
        state = init_state(params, frozen, optimizer=optimizer, ema=config.ema_decay is not None, penalties=carried)
        path: Path | None = None
        if resume_from:
            state, path = self._resume(state, resume_from)
        shardings = meshes.state_shardings(self.mesh, state)
        state = jax.device_put(state, shardings)
        rows, whole = meshes.batch_sharding(self.mesh), meshes.whole(self.mesh)
        step = jax.jit(
            functools.partial(
                train_step,
                graph=graph,
                optimizer=optimizer,
                schedule=schedule,
                ema_decay=config.ema_decay,
                accumulate=config.accumulate,
                penalties=[_weighted(r, c.strength) for r, c in zip(regularizers, config.regularizers, strict=True)],
                groups=groups,
                robots=self._robots(),
            ),
            in_shardings=(shardings, rows, whole),
            out_shardings=(shardings, whole),
            donate_argnums=0,
        )
        rng = jax.random.key(config.seed)
        reports = Reports(sorted(params), skip_steps=config.skip_steps, tell=_tell, name_rows=self._name_rows)
        validation = (
            Validation(self.prepared.held_out, config, graph, out_sharding=whole) if self.prepared.held_out else None
        )

        # --- Training ---------------------------------------------------------------------------------------------

        # One process speaks for the run.
        events = plugins if hosts.is_first() else load_plugins(environment={"FLA_PLUGINS": ""})
        stopping = False
        start = done = int(state.step)
        reason = "failed"
        sampler: Mapping[str, Any] = self.mixture.state
        with ExitStack() as stack:
            names = config.trackers if hosts.is_first() else ()
            trackers = stack.enter_context(
                Trackers(map(plugins.tracker, names), config.out, unstructure(config), tell=_tell)
            )
            stop = stack.enter_context(_stop_signals())
            events.train_started(config=config, run_dir=config.out, step=start)
            feed = stack.enter_context(Feed(self.mixture, rows))
            try:
                while done < config.steps and not stopping:
                    served = feed.next()
                    if done == 0:
                        trackers.pictures(0, functools.partial(self._samples, served))
                    state, metrics = step(state, served.batch, rng)
                    sampler = served.state
                    done += 1
                    reports.add(done, metrics, served.origin)
                    last = done == config.steps
                    saving = last or done % config.save_every == 0
                    report: dict[str, float] = {}
                    # Also before a checkpoint: a resumed run must not average over steps that it did not see.
                    if saving or done % config.log_every == 0:
                        report = reports.read(waited_s=feed.waited_s)
                        stopping = hosts.any_of(bool(stop))
                    elif jax.process_count() == 1:
                        stopping = bool(stop)
                    paused = time.monotonic()
                    if validation is not None and (last or done % (config.validate_every or config.save_every) == 0):
                        report |= self._validate(validation, state, done)
                        trackers.pictures(done, functools.partial(chunks, validation.chunks, self.prepared.codecs))
                    if self.closed_loop is not None and (
                        last or done % (config.evaluate_every or config.save_every) == 0
                    ):
                        report |= self.closed_loop.measure(graph, _served(state), self.prepared.codecs, step=done)
                    reports.leave_out(time.monotonic() - paused)
                    trackers.log(done, report)
                    events.step_ended(step=done, total=config.steps, metrics=report)
                    # What was saved before may be the last that is any good.
                    if saving and (last or reports.healthy):
                        self._save(state, sampler, done, regularizers)
                    for written in self.saver.finished():
                        path = written
                        events.checkpoint_saved(step=int(path.name), path=path)
                if len(reports):
                    trackers.log(done, reports.read(waited_s=feed.waited_s))
                reason = "interrupted" if done < config.steps else "finished"
                unsaved = reason == "interrupted" and done % config.save_every != 0
                if unsaved or path is None:
                    self._save(state, sampler, done, regularizers)
                self.saver.wait(must=True)
                for written in self.saver.finished():
                    path = written
                    events.checkpoint_saved(step=int(path.name), path=path)
            finally:
                self.saver.wait()  # also when something else went wrong: what it writes may be the last that is good
                events.train_ended(step=done, reason=reason)
        assert path is not None
        return path, done, (stop[0] if stop else int(signal.SIGTERM)) if done < config.steps else None

    # --- What a run begins with ---

    def _initial(self, *, scratch: bool) -> tuple[Any, Flat]:
        """The model and its parameters; those of `config.init`, and a report of them, unless a checkpoint has newer."""
        config, prepared = self.config, self.prepared
        if scratch or config.init == "scratch":
            return parameters.initialise(lambda: prepared.family.build(prepared.model_config, config.seed))
        graph, flat, report = weights.load(
            [fetch(place) for place in (config.init, *config.init_also)],
            prepared.family,
            prepared.model_config,
            seed=config.seed,
            model=config.model,
            registry=self.plugins,
            fresh=config.init_fresh,
            resize=config.init_resize,
        )
        print(report, flush=True)
        return graph, flat

    def _carried(self, regularizers: Sequence[Regularizer], params: Flat, *, begun: bool) -> tuple[Any, ...]:
        """What the regularizers carry at first; where a run has begun, a checkpoint replaces it."""
        config = self.config
        init = None if begun or config.init == "scratch" else fetch(config.init)
        found = checkpoint.find(init) if init is not None and checkpoint.is_checkpoint(init) else None
        return tuple(
            one.prepare(Beginning(params=params, options=penalty.options, checkpoint=found, resumes=begun))
            for one, penalty in zip(regularizers, config.regularizers, strict=True)
        )

    def _robots(self) -> Robots:
        codecs = self.prepared.codecs
        names = tuple(codecs)
        return Robots(
            names=names,
            dims=tuple(codec.embodiment.action.names for codec in codecs.values()),
            of_part=tuple(names.index(part.demonstrations.embodiment.name) for part in self.prepared.parts),
        )

    def _name_rows(self, origin: NDArray[np.int32]) -> str:
        """Which episodes the rows of a batch are of."""
        found: dict[tuple[str, int], None] = {}
        for part, row in origin.tolist():
            dataset = self.prepared.parts[part].demonstrations.dataset
            episode = int(np.searchsorted(dataset.episode_bounds[:, 1], row, side="right"))
            found[str(dataset.path), episode] = None
        listed = [f"{path} episode {episode}" for path, episode in found]
        return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")

    # --- Pictures and validation ---

    def _samples(self, served: Served) -> dict[str, Picture]:
        if served.origin is None:
            return {}
        return samples(served.batch, served.origin, [part.codec for part in self.prepared.parts])

    def _validate(self, validation: Validation, state: TrainState, step: int) -> dict[str, float]:
        found = validation.measure(_served(state))
        if self.saver.best is None or found["held_out/loss"] < validation.best:
            validation.best = found["held_out/loss"]
            self.saver.best = step
        return found

    # --- Checkpoints ---

    def _save(
        self, state: TrainState, sampler: Mapping[str, Any], step: int, regularizers: Sequence[Regularizer]
    ) -> None:
        """Copy what is to be saved, and write it while training goes on."""
        train_state: dict[str, Any] = {"step": state.step, "opt_state": state.opt_state}
        if state.ema is not None:  # otherwise params/ already holds them
            train_state["params"] = state.params
        if state.penalties:
            train_state["penalties"] = list(state.penalties)
        importance = {
            one.name: jax.device_get(one.importance(kept, state.params))
            for one, kept in zip(regularizers, state.penalties, strict=True)
            if one.importance is not None
        }
        family, model_config = self.prepared.family, self.prepared.model_config
        keep = family.keep_files
        begin: Callable[[], Callable[[], Path]] = functools.partial(
            checkpoint.begin,
            self.folder,
            manifest=self._manifest(step, tuple(state.params), sampler),
            params=_served(state),
            stats=self.prepared.stats,
            train_state=train_state,
            importance=importance,
            best=self.saver.best == step,
            keep_files=None if keep is None else lambda folder: keep(model_config, folder),
        )
        self.saver.save(begin)

    def _manifest(self, step: int, trainable: tuple[str, ...], sampler: Mapping[str, Any]) -> checkpoint.Manifest:
        return checkpoint.Manifest(
            family=self.prepared.family.name,
            variant=self.config.model.split("/", 1)[1],
            model=unstructure(self.prepared.model_config),
            embodiments={name: checkpoint.describe(codec.embodiment) for name, codec in self.prepared.codecs.items()},
            step=step,
            trainable=trainable if self.config.freeze else (),
            train=unstructure(self.config),
            sampler=sampler,
            plugins=self._plugin_versions(),
            versions=_versions(),
            git=_git_state(),
        )

    # --- Resuming ---

    def _resume(self, state: TrainState, saved: Sequence[Path]) -> tuple[TrainState, Path]:
        """The newest state that can be read, and the mixture set to the batch after it."""
        for path in saved:
            try:
                return self._restore(state, path), path
            except checkpoint.DamagedCheckpoint as error:
                if path == saved[-1]:
                    raise
                _tell(f"{error}; going on from the checkpoint before it")
        raise AssertionError("there is a checkpoint to resume from")

    def _restore(self, state: TrainState, path: Path) -> TrainState:
        manifest = checkpoint.read_manifest(path)
        refuse_other_run(manifest, self.config, self.prepared, tuple(state.params), path=path)
        different = changes(manifest, self.config, self.prepared, self._plugin_versions(), path=path)
        if different and not self.accept_changes:
            listed = "\n".join(f"  {line}" for line in different)
            raise CheckpointError(
                f"{path} was made otherwise than this run would go on:\n{listed}\nResume with what was saved, start a "
                f"new run with --init {path}, or go on all the same with --accept-changes"
            )
        for line in different:
            _tell(f"changed: {line}")
        restored = restore(state, path)
        self.mixture.restore(dict(manifest.sampler))
        return restored

    def _plugin_versions(self) -> tuple[str, ...]:
        """Of installed ones: what a script adds for itself has none."""
        installed = (one for one in self.plugins.plugins if not one.error and one.version != "-")
        return tuple(sorted({f"{one.distribution} {one.version}" for one in installed}))


def _served(state: TrainState) -> Flat:
    """The parameters that a policy is served with."""
    return {**(state.params if state.ema is None else state.ema), **state.frozen}


def _weighted(regularizer: Regularizer, strength: float) -> Penalty:
    return Penalty(
        value=lambda params, carried, moment: strength * regularizer.penalty(params, carried, moment),
        update=regularizer.update,
    )


def _tell(line: str) -> None:
    if hosts.is_first():
        print(f"fla: {line}", flush=True)


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
