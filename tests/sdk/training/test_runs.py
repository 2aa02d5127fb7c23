"""Runs as their folders tell of them: who trains there, how they ended, and what is damaged."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fla_sdk.config import unstructure
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.policy import checkpoint
from fla_sdk.training import run_file
from fla_sdk.training.config import Source, TrainConfig
from fla_sdk.training.run_file import Claim
from fla_sdk.training.runs import PastRun, choose, differences, find, is_detail
from fla_sdk.training.runs_page import write_runs_page
from fla_sdk.training.runs_table import aligned, final_values, rows

_LIMIT_S = 300
_TRAINING = """
import sys
from pathlib import Path
from fla_sdk.training.config import TrainConfig
from fla_sdk.training.run_file import Claim

with Claim(TrainConfig(model="pi05/tiny", out=Path(sys.argv[1])), resume=False):
    print("training", flush=True)
    sys.stdin.read()
"""


def _config(folder: Path, **changes: Any) -> TrainConfig:
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Source(data="d", embodiment=robot) for robot in ("planar2", "planar3", "planar2")]
    return TrainConfig(**{"model": "pi05/tiny", "out": folder, "steps": 100, "sources": sources, **changes})


def _finished(folder: Path, reports: Mapping[int, Mapping[str, float]], **changes: Any) -> PastRun:
    with Claim(_config(folder, **changes), resume=False) as claim:
        claim.end(finished=True)
    _write(folder, reports)
    return PastRun(folder, name=folder.name)


def _write(folder: Path, reports: Mapping[int, Mapping[str, float]]) -> None:
    lines = [json.dumps({"step": step, **report}) for step, report in reports.items()]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@contextmanager
def _training(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _TRAINING, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        yield process


# --- State ------------------------------------------------------------------------------------------------------------


def test_who_trains_is_alone_and_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with _training(folder) as process:
        assert PastRun(folder, name="run").state == "running"
        with pytest.raises(ConfigError, match=r"another process is training in .*run; wait for it, stop it, or"):
            Claim(_config(folder), resume=True)
        assert PastRun(folder, name="run").state == "running"
        process.send_signal(signal.SIGKILL)
        process.wait(_LIMIT_S)
    assert PastRun(folder, name="run").state == "killed"
    with Claim(_config(folder), resume=True):
        assert PastRun(folder, name="run").state == "running"


def test_how_a_run_ended(tmp_path: Path) -> None:
    def state(error: BaseException | None = None, *, finished: bool | None = None) -> PastRun:
        try:
            with Claim(_config(tmp_path), resume=True) as claim:
                if error is not None:
                    raise error
                claim.end(finished=bool(finished))
        except (KeyboardInterrupt, RuntimeError):
            pass
        return PastRun(tmp_path, name="run")

    assert state(finished=True).state == "finished"
    assert state(finished=False).state == "interrupted"
    assert state(KeyboardInterrupt()).state == "interrupted"
    failed = state(RuntimeError("out of memory"))
    assert (failed.state, failed.error) == ("failed", "RuntimeError: out of memory")
    again = state(finished=True)
    assert (again.state, again.error) == ("finished", "")


def test_a_run_that_goes_on_keeps_its_beginning(tmp_path: Path) -> None:
    config = _config(tmp_path)
    with Claim(config, resume=False):
        first = run_file.read(tmp_path)
    with Claim(config, resume=True):
        second = run_file.read(tmp_path)
    with Claim(config, resume=False):
        other = run_file.read(tmp_path)
    assert first and second and other
    assert (first.resumed, second.resumed, other.resumed) == (0, 1, 0)
    assert first.started == second.started < other.started


def test_folders_of_older_runs_tell_what_they_can(tmp_path: Path) -> None:
    old = tmp_path / "old"
    train = unstructure(_config(old, steps=40))
    for step in (20, 40):
        (old / "checkpoints" / str(step) / "params").mkdir(parents=True)
        (old / "checkpoints" / str(step) / "params" / "weights").write_bytes(b"0" * 1000)
        manifest = checkpoint.Manifest(family="pi05", variant="tiny", model={}, embodiments={}, step=step, train=train)
        (old / "checkpoints" / str(step) / "fla.json").write_text(json.dumps(unstructure(manifest)))
    kept = PastRun(old, name="old")
    assert (kept.state, kept.step, kept.steps, kept.started) == ("finished", 40, 40, None)
    assert (kept.model, kept.robots, kept.checkpoints) == ("pi05/tiny", ("planar2", "planar3"), (20, 40))
    assert 2000 < kept.checkpoint_bytes < 20_000
    bare = tmp_path / "bare"
    bare.mkdir()
    _write(bare, {3: {"loss": 1.0}})
    unknown = PastRun(bare, name="bare")
    assert (unknown.state, unknown.step, unknown.steps, unknown.model) == ("stopped", 3, 0, "")
    (bare / run_file.FILE).write_text('{"state": "fini')  # cut off
    assert PastRun(bare, name="bare").state == "stopped"


# --- Metrics ----------------------------------------------------------------------------------------------------------

_NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
_REPORTS = st.dictionaries(st.sampled_from(["loss", "held_out/loss", "loss/planar2"]), _NUMBERS, min_size=1)
_GARBAGE = st.sampled_from(
    ["", "{", '{"step": 7, "lo', "null", "[1, 2]", '{"loss": 1.0}', '{"step": 1, "loss": "a"}', "\0"]
)


@given(lines=st.lists(st.one_of(_REPORTS, _GARBAGE)))
def test_damaged_lines_are_counted_and_the_others_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    texts = [line if isinstance(line, str) else json.dumps({"step": n, **line}) for n, line in enumerate(lines)]
    (folder / "metrics.jsonl").write_text("".join(text + "\n" for text in texts))
    run = PastRun(folder, name="run")
    good = [(n, line) for n, line in enumerate(lines) if not isinstance(line, str)]
    assert [step for step, _ in run.reports] == [n for n, _ in good]
    assert run.unreadable_lines == len(lines) - len(good)
    curve = run.curve("loss")
    finite = {n: line["loss"] for n, line in good if abs(line.get("loss", float("inf"))) < float("inf")}
    assert dict(zip(curve.steps, curve.values, strict=True)) == finite
    assert run.best("loss") == min(finite.values(), default=None)
    assert run.last("loss") == (list(finite.values())[-1] if finite else None)
    assert write_runs_page(folder / "page.html", [run]).stat().st_size > 0


def test_metrics_of_single_dimensions_and_groups_are_details() -> None:
    shown = ("loss", "loss/planar2", "held_out/loss/planar2", "held_out/error/planar2/joint1", "grad_norm")
    assert not any(map(is_detail, shown))
    assert all(map(is_detail, ("loss/planar2/joint1", "grad_norm/vision", "param_norm/language")))


# --- Several ----------------------------------------------------------------------------------------------------------


def test_runs_are_found_below_a_folder_but_not_in_each_other(tmp_path: Path) -> None:
    for name in ("b", "a/second", "a/first", "data/deep/deeper/deepest/too_deep/run"):
        _finished(tmp_path / name, {1: {"loss": 1.0}})
    _finished(tmp_path / "b" / "replaced", {})
    (tmp_path / "b" / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    found = find(tmp_path)
    assert [run.name for run in found] == ["a/first", "a/second", "b"]
    assert [run.name for run in choose(found, ["b", "a/first"])] == ["b", "a/first"]
    assert [run.name for run in find(tmp_path / "a" / "first")] == ["first"]
    with pytest.raises(UnknownNameError, match="unknown run 'a/frist'; did you mean 'a/first'"):
        choose(found, ["a/frist"])
    with pytest.raises(ConfigError, match="there is no folder"):
        find(tmp_path / "nowhere")


def test_in_what_runs_differ(tmp_path: Path) -> None:
    more = [Source(data="d", embodiment="planar2"), Source(data="e", embodiment="planar3")]
    one = _finished(tmp_path / "one", {10: {"loss": 0.5, "loss/planar2/joint1": 0.1}, 20: {"held_out/loss": 0.7}})
    two = _finished(tmp_path / "two", {10: {"loss": 0.25}}, sources=more, batch_size=8)
    found = differences([one, two])
    assert found["batch_size"] == [32, 8]
    assert found["sources.1.data"] == ["d", "e"]
    assert found["sources.2.embodiment"] == ["planar2", None]
    assert not [name for name in found if name == "out" or name.startswith("optimizer")]
    assert final_values([one, two]) == {"loss": [0.5, 0.25], "held_out/loss": [0.7, None]}
    first, second = rows([one, two])
    assert first[:9] == ("one", "pi05/tiny", "planar2, planar3", "finished", "20/100", "0.5", "0.5", "0.7", "0.7")
    assert second[7:9] == ("", "")


@given(table=st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[st.text("ab ", max_size=5)] * n), min_size=1)))
def test_columns_stand_under_each_other(table: list[tuple[str, ...]]) -> None:
    marked = [tuple(f"<{cell}>" for cell in row) for row in table]
    lines = list(aligned(marked[0], marked[1:]))
    starts = {tuple(i for i, character in enumerate(line) if character == "<") for line in lines}
    assert len(lines) == len(table)
    assert len(starts) == 1


def test_the_page_holds_every_run_and_no_markup_of_theirs(tmp_path: Path) -> None:
    many = {step: {"loss": 1 / step, "grad_norm": 0.0, "loss/planar2/joint1": 1.0} for step in range(1, 2000)}
    one = _finished(tmp_path / "<script>", many)
    two = _finished(tmp_path / "two", {5: {"loss": 0.5, "held_out/loss": 0.5}}, steps=5)
    page = write_runs_page(tmp_path / "new" / "page.html", [one, two]).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.count("<svg") == 3  # loss, held-out loss and norm; no details
    points = [part.split('"')[0].split() for part in page.split('points="')[1:]]
    assert 100 < max(map(len, points)) < 300
    for point in (point for one in points for point in one):
        across, down = map(float, point.split(","))
        assert 0 <= across <= 500 and 0 <= down <= 180


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fla_sdk.cli import main

    monkeypatch.chdir(tmp_path)
    _finished(tmp_path / "out" / "one", {10: {"loss": 0.5, "data_wait": float("nan")}})
    _finished(tmp_path / "out" / "two", {10: {"loss": 0.25}}, batch_size=8)
    with (tmp_path / "out" / "two" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')

    def said(*arguments: str, status: int = 0) -> str:
        assert main(["runs", *arguments]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    listed = said()
    assert [line.split()[0] for line in listed.splitlines()[:3]] == ["run", "one", "two"]
    assert "two: damaged lines of metrics left out: 1" in listed
    assert "batch_size" not in listed
    assert any(line.split() == ["batch_size", "32", "8"] for line in said("out", "one", "two").splitlines())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    first, second = json.loads(said("--json"), parse_constant=refuse)
    assert (first["name"], first["last"]["loss"], first["last"]["data_wait"]) == ("one", 0.5, None)
    assert second["config"]["batch_size"] == 8
    assert "page: page.html" in said("--html", "page.html")
    assert "0.25" in (tmp_path / "page.html").read_text()
    assert "is a folder; name the file" in said("--html", "out", status=1)
    (tmp_path / "bare").mkdir()
    assert "there is no run in bare" in said("bare", status=1)
