"""`Trainer`: learning, checkpoints, resuming to the same numbers, and what is refused."""

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import jax
import numpy as np
import pytest

import fla_sdk as fla
from fla_sdk.errors import CheckpointError, ConfigError, UnknownNameError
from fla_sdk.plugins import load_plugins
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.training import run_file
from fla_sdk.training.config import Optimizer, Penalty, Source, from_yaml, to_yaml
from fla_sdk.training.reports import NonFiniteLoss
from fla_sdk.training.trainer import Trainer

_LIMIT_S = 300
GROUPS = ("action_expert", "language", "projections", "vision")


def _lines(run: Path) -> list[dict[str, float]]:
    """What the run logged, without its speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("steps_per_second", "data_wait")} for line in lines]


def _leaves(item: Path) -> dict[str, np.ndarray]:
    """Every array of an Orbax item."""
    tree = checkpoint.restore(item, kind=np.ndarray)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _same(a: Path, b: Path) -> None:
    """Parameters, moving average and optimizer state of two checkpoints are equal to the bit."""
    for item in ("params", "train_state"):
        left, right = _leaves(a / item), _leaves(b / item)
        assert left.keys() == right.keys()
        for name, leaf in left.items():
            assert np.asarray(leaf).tobytes() == np.asarray(right[name]).tobytes(), name


def _resumable(trained: Path, out: Path, *, step: int = 20) -> Path:
    """A copy of the run as it was after `step`."""
    shutil.copytree(trained, out)
    for newer in checkpoint.steps(out / "checkpoints"):
        if newer > step:
            shutil.rmtree(out / "checkpoints" / str(newer))
    return out


# --- Learning ---------------------------------------------------------------------------------------------------------


def test_the_loss_falls(trained: Path) -> None:
    losses = [line["loss"] for line in _lines(trained)]
    assert [line["step"] for line in _lines(trained)] == list(range(1, 41))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_checkpoint_holds_all_that_serving_and_resuming_need(
    trained: Path, registry: Any, small_run: Callable[..., Any]
) -> None:
    assert checkpoint.steps(trained / "checkpoints") == [20, 40]
    newest = checkpoint.find(trained)
    assert newest.name == "40"
    manifest = checkpoint.read_manifest(newest)
    assert (manifest.family, manifest.variant, manifest.step) == ("pi05", "tiny", 40)
    assert list(manifest.embodiments) == ["planar2", "planar3"]
    assert from_yaml(json.dumps(manifest.train)) == small_run(trained)
    assert any(plugin.startswith("fla-sdk ") for plugin in manifest.plugins)
    assert {"jax", "numpy"} <= manifest.versions.keys()
    for name in manifest.embodiments:
        assert checkpoint.read_stats(newest, name).count == len(registry.open_dataset(str(_data(manifest, name))))
    averaged, last = checkpoint.read_params(newest), _leaves(newest / "train_state")
    # What is served is the moving average, which lags behind.
    assert any(not np.array_equal(leaf, last[f"['params']['{path}']"]) for path, leaf in averaged.items())


def _data(manifest: checkpoint.Manifest, name: str) -> str:
    return next(source["data"] for source in manifest.train["sources"] if source["embodiment"] == name)


# --- Resuming ---------------------------------------------------------------------------------------------------------


def test_a_resumed_run_gives_the_same_numbers(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    run = _resumable(trained, tmp_path / "run")
    # Leftovers of a checkpoint that was never finished.
    (run / "checkpoints" / ".40.partial" / "params").mkdir(parents=True)
    (run / "checkpoints" / "notes").mkdir()
    result = Trainer(small_run(run), plugins=registry).fit(resume=True)
    assert (result.step, result.interrupted, result.checkpoint) == (40, False, run / "checkpoints" / "40")
    _same(result.checkpoint, trained / "checkpoints" / "40")
    assert _lines(run) == _lines(trained)
    assert not (run / "checkpoints" / ".40.partial").exists()


@pytest.mark.parametrize("moment", ["step:25", "write:40"])
def test_a_killed_run_resumes_to_the_same_numbers(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path, moment: str
) -> None:
    config = small_run(tmp_path / "run")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    script = Path(__file__).parent / "killed_run.py"
    command = [sys.executable, str(script), str(tmp_path / "config.yaml"), moment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint.steps(config.out / "checkpoints") == [20]
    with (config.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')  # the line that was being written
    result = Trainer(config, plugins=registry).fit(resume=True)
    _same(result.checkpoint, trained / "checkpoints" / "40")
    assert _lines(config.out) == _lines(trained)


def test_ctrl_c_writes_a_checkpoint_and_resume_finishes(small_run: Callable[..., Any], tmp_path: Path) -> None:
    config, run = small_run(tmp_path / "run", steps=1_000_000, save_every=1_000_000), tmp_path / "run"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    fla_train = [sys.executable, "-m", "fla_sdk.cli", "train", str(tmp_path / "config.yaml")]
    said: list[str] = []
    with subprocess.Popen(fla_train, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("step 5/"):
                process.send_signal(signal.SIGINT)
    text = "".join(said)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    (stopped,) = checkpoint.steps(run / "checkpoints")
    assert stopped >= 5
    assert f"interrupted at step {stopped}; continue with the same command and --resume" in text
    more = [*fla_train, "--steps", str(stopped + 3), "--resume"]
    done = subprocess.run(more, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert f"resuming at step {stopped}" in done.stdout
    assert checkpoint.steps(run / "checkpoints") == [stopped, stopped + 3]
    assert [line["step"] for line in _lines(run)] == list(range(1, stopped + 4))


def test_an_existing_run_is_not_overwritten(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    run = _resumable(trained, tmp_path / "run")
    trainer = Trainer(small_run(run, steps=1), plugins=registry)
    with pytest.raises(ConfigError, match=r"already holds a run \(checkpoints at steps 20\); resume it with --resume"):
        trainer.fit()
    with pytest.raises(ConfigError, match="exclude each other"):
        trainer.fit(resume=True, overwrite=True)
    assert checkpoint.steps(run / "checkpoints") == [20]
    assert trainer.fit(overwrite=True).step == 1
    assert checkpoint.steps(run / "checkpoints") == [1]
    assert [line["step"] for line in _lines(run)] == [1]


def test_resume_refuses_what_is_another_run(
    trained: Path, small_run: Callable[..., Any], registry: Any, arms: dict[str, Path], tmp_path: Path
) -> None:
    from fla_sdk.evaluation.recording import record

    record(registry, benchmark="planar", embodiment="planar2", episodes=2, out=tmp_path / "other", seed=99)
    one = Source(data=str(arms["planar2"]), embodiment="planar2")
    other = Source(data=str(tmp_path / "other"), embodiment="planar2")
    both = [other, Source(data=str(arms["planar3"]), embodiment="planar3")]
    for changes, reason in (
        ({"sources": both}, r"(?s)sources: saved .*, now .*data of embodiment 'planar2': saved .*keeps the saved stat"),
        ({"batch_size": 2, "seed": 7}, r"(?s)batch_size: saved 4, now 2\n  seed: saved 42, now 7\n.*--accept-changes"),
        ({"sources": [one]}, "was trained for planar2, planar3, this run is for planar2;"),
        ({"freeze": ["vision"]}, r"was trained with freeze \[\], this run has \['vision'\]"),
        ({"ema_decay": None}, "was trained with ema_decay 0.9, this run has None"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            Trainer(small_run(trained, **changes), plugins=registry).fit(resume=True)
    changed = small_run(trained)
    changed = attrs.evolve(changed, model_options={**changed.model_options, "horizon": 4})
    with pytest.raises(CheckpointError, match=r"another model config \(horizon: saved 8, now 4\)"):
        Trainer(changed, plugins=registry).fit(resume=True)
    assert checkpoint.steps(trained / "checkpoints") == [20, 40]


def test_changes_are_accepted_when_told_to(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _resumable(trained, tmp_path / "run")
    changed = small_run(run, batch_size=2, steps=22)
    result = Trainer(changed, plugins=registry).fit(resume=True, accept_changes=True)
    assert result.step == 22
    assert "fla: changed: batch_size: saved 4, now 2" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["manifest", "array"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    trained: Path,
    small_run: Callable[..., Any],
    registry: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    newest = run / "checkpoints" / "40"
    if damage == "manifest":
        (newest / "fla.json").write_text('{"format": 1')
    else:
        largest = max(
            (newest / "train_state").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0
        )
        content = largest.read_bytes()
        largest.write_bytes(content[: len(content) // 2])
    result = Trainer(small_run(run, steps=22), plugins=registry).fit(resume=True)
    assert result.step == 22
    told = capsys.readouterr().out
    assert "checkpoints/40" in told and "going on from the checkpoint before it" in told


def test_a_disk_that_is_full_costs_a_checkpoint_and_not_the_run(
    small_run: Callable[..., Any],
    registry: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin = checkpoint.begin

    def full_once(folder: Path, **contents: Any) -> Any:
        finish = begin(folder, **contents)
        if contents["manifest"].step != 4:
            return finish

        def fail() -> Path:
            shutil.rmtree(finish())
            raise OSError(errno.ENOSPC, "No space left on device")

        return fail

    monkeypatch.setattr(checkpoint, "begin", full_once)
    config = small_run(tmp_path / "run", steps=6, save_every=2, keep_last=9)
    assert Trainer(config, plugins=registry).fit().step == 6
    assert checkpoint.steps(config.out / "checkpoints") == [2, 6]
    assert "no checkpoint: OSError: [Errno 28] No space left on device; training goes on" in capsys.readouterr().out


def test_init_starts_from_the_weights_of_a_checkpoint(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    Trainer(small_run(tmp_path / "run", init=str(trained), steps=0, ema_decay=None), plugins=registry).fit()
    served = checkpoint.read_params(checkpoint.find(trained))
    start = checkpoint.read_params(tmp_path / "run" / "checkpoints" / "0")
    for path, leaf in served.items():
        np.testing.assert_array_equal(start[path], leaf, err_msg=path)


# --- Failing ----------------------------------------------------------------------------------------------------------


def test_steps_that_are_not_finite_are_skipped_within_a_budget_and_never_saved(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = Optimizer(peak_lr=1e38, end_lr=1e38, warmup_steps=0, decay_steps=10)
    config = small_run(tmp_path / "run", optimizer=wild, save_every=1, log_every=7, steps=10, skip_steps=2)
    with pytest.raises(NonFiniteLoss, match=r"step 4 is not finite: loss .*3 such steps, 2 may be skipped"):
        Trainer(config, plugins=registry).fit()
    assert checkpoint.steps(config.out / "checkpoints") == [1]
    told = capsys.readouterr().out
    assert "skipped: step 2 is not finite" in told
    assert re.search(r"its batch: \S*planar\d episode \d", told)


# --- Freezing ---------------------------------------------------------------------------------------------------------


def test_frozen_groups_stay_as_they_were_and_have_no_optimizer_state(
    small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    config = small_run(tmp_path / "run", freeze=["vision", "language"], steps=3)
    trainer = Trainer(config, plugins=registry)
    path = trainer.fit().checkpoint
    family, model = trainer.prepared.family, trainer.prepared.model_config
    _, initial = parameters.initialise(lambda: family.build(model, config.seed))
    after, manifest = checkpoint.read_params(path), checkpoint.read_manifest(path)
    frozen = {name for name in after if family.group(name) in ("vision", "language")}
    assert frozen
    assert set(manifest.trainable) == after.keys() - frozen
    for name in frozen:
        np.testing.assert_array_equal(after[name], initial[name], err_msg=name)
    assert any(not np.array_equal(after[name], initial[name]) for name in manifest.trainable)
    state = _leaves(path / "train_state")
    assert any("mu" in name for name in state)
    assert not [name for name in state if any(f"'{path}'" in name for path in frozen)]


def test_a_group_that_does_not_exist(small_run: Callable[..., Any], registry: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="parameter group to freeze 'visoin'; did you mean 'vision'"):
        Trainer(small_run(tmp_path / "run", freeze=["visoin"]), plugins=registry).fit()
    everything = ["vision", "language", "action_expert", "projections"]
    with pytest.raises(ConfigError, match="nothing is left to train"):
        Trainer(small_run(tmp_path / "run", freeze=everything), plugins=registry).fit()


# --- Loss -------------------------------------------------------------------------------------------------------------


def test_loss_over_own_dimensions_or_all(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    Trainer(small_run(tmp_path / "run", loss_dims="all", steps=1), plugins=registry).fit()
    assert _lines(tmp_path / "run")[0]["loss"] != _lines(trained)[0]["loss"]


def test_l2sp_holds_the_parameters_near_their_start(
    trained: Path, small_run: Callable[..., Any], registry: Any, tmp_path: Path
) -> None:
    config = small_run(tmp_path / "run", regularizers=[Penalty(name="l2sp", strength=100.0)], steps=20)
    trainer = Trainer(config, plugins=registry)
    trainer.fit()
    prepared = trainer.prepared
    _, start = parameters.initialise(lambda: prepared.family.build(prepared.model_config, config.seed))

    def distance(run: Path) -> float:
        after = checkpoint.read_params(run / "checkpoints" / "20")
        return sum(float(np.sum(np.square(leaf - np.asarray(start[path])))) for path, leaf in after.items())

    assert distance(config.out) < 0.5 * distance(trained)
    penalties = [line["penalty"] for line in _lines(config.out)]
    assert penalties[0] == 0
    assert min(penalties[1:]) > 0
    assert {line["penalty"] for line in _lines(trained)} == {0}


# --- Events and trackers ----------------------------------------------------------------------------------------------


class Recorder:
    def __init__(self) -> None:
        self.events: list[Any] = []

    @fla.hookimpl
    def fla_train_started(self, config: fla.TrainConfig, run_dir: Path, step: int) -> None:
        assert config.out == run_dir
        self.events.append(("started", step))

    @fla.hookimpl
    def fla_step_ended(self, step: int, total: int, metrics: dict[str, float]) -> None:
        self.events.append(("step", step, total, sorted(metrics)))

    @fla.hookimpl
    def fla_checkpoint_saved(self, step: int, path: Path) -> None:
        assert path.name == str(step)
        self.events.append(("saved", step))

    @fla.hookimpl
    def fla_train_ended(self, step: int, reason: str) -> None:
        self.events.append(("ended", step, reason))


def test_events_come_in_order(small_run: Callable[..., Any], tmp_path: Path) -> None:
    registry, recorder = load_plugins(), Recorder()
    registry.add(recorder, name="recorder")
    config = small_run(tmp_path / "run", steps=5, log_every=2, save_every=3)
    Trainer(config, plugins=registry).fit()
    groups = [f"{what}_norm/{group}" for what in ("grad", "param") for group in GROUPS]
    robots = {"planar2": ("joint1", "joint2"), "planar3": ("joint1", "joint2", "joint3")}
    losses = [f"loss/{robot}{dim}" for robot, dims in robots.items() for dim in ("", *(f"/{d}" for d in dims))]
    scalars = ["data_wait", "grad_norm", "learning_rate", "loss", "param_norm", "penalty", "skipped_steps"]
    names = sorted([*scalars, "steps_per_second", *groups, *losses])
    # A checkpoint is written beside the training: it is announced when it is there.
    assert [event for event in recorder.events if event[0] != "saved"] == [
        ("started", 0),
        ("step", 1, 5, []),
        ("step", 2, 5, names),
        ("step", 3, 5, names),
        ("step", 4, 5, names),
        ("step", 5, 5, names),
        ("ended", 5, "finished"),
    ]
    assert [event for event in recorder.events if event[0] == "saved"] == [("saved", 3), ("saved", 5)]
    assert recorder.events.index(("saved", 3)) > recorder.events.index(("step", 3, 5, names))
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], sorted(line.keys() - {"step"})) for line in lines] == [(n, names) for n in (2, 3, 4, 5)]
    recorder.events.clear()
    with pytest.raises(CheckpointError):
        Trainer(attrs.evolve(config, init=str(tmp_path / "nowhere"), out=tmp_path / "other"), plugins=registry).fit()
    assert recorder.events == []


class FullDisk:
    """A tracker's run that takes pictures and fails at everything else."""

    def __init__(self) -> None:
        self.pictures: list[tuple[int, str, float]] = []

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        raise OSError("no space left")

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.pictures.append((step, name, float(image.std())))

    def close(self) -> None:
        raise OSError("no space left")


def test_a_run_goes_on_without_a_tracker_that_fails(
    small_run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = FullDisk()

    class Plugin:
        @fla.hookimpl
        def fla_trackers(self) -> fla.Tracker:
            return fla.Tracker(name="full", description="", open=lambda folder, config: full)

    registry = load_plugins()
    registry.add(Plugin(), name="full")
    config = small_run(tmp_path / "run", steps=3, trackers=["full", "jsonl"])
    Trainer(config, plugins=registry).fit()
    assert capsys.readouterr().out.count("tracker full failed, training goes on: OSError: no space left") == 1
    assert [line["step"] for line in _lines(config.out)] == [1, 2, 3]
    shown = {(step, name) for step, name, contrast in full.pictures if contrast > 10}
    assert shown <= {(0, "samples/planar2"), (0, "samples/planar3")}
    assert shown
    left = run_file.read(config.out)
    assert left is not None
    assert (left.state, left.config["trackers"]) == ("finished", ["full", "jsonl"])
