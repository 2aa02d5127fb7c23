"""`progress`: what a training run prints into a log file."""

from pathlib import Path

import pytest

from fla_plugins.progress import TrainingDisplay
from fla_sdk.training.config import Source, TrainConfig


def test_lines_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(
        model="pi05/tiny", sources=[Source(data="a", embodiment="planar2"), Source(data="b", embodiment="planar2")]
    )
    display = TrainingDisplay()
    for _ in range(2):  # it serves one run after another
        display.fla_train_started(config, Path("out"), 0)
        display.fla_step_ended(1, 10, {})
        display.fla_step_ended(2, 10, {"loss": 0.25, "steps_per_second": 4.0})
        display.fla_checkpoint_saved(2, Path("out/checkpoints/2"))
        display.fla_train_ended(2, "interrupted")
        assert capsys.readouterr().out.splitlines() == [
            "training pi05/tiny on planar2 in out",
            "step 2/10  loss 0.2500  4 steps/s  2 s left",
            "checkpoint of step 2: out/checkpoints/2",
            "training interrupted at step 2",
        ]
    display.fla_train_started(config, Path("out"), 2)
    display.fla_train_ended(10, "finished")
    assert capsys.readouterr().out == "resuming at step 2 of pi05/tiny on planar2 in out\n"


def test_a_line_says_what_matters_of_a_long_report(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay()
    norms = {"loss/planar2/joint1": 1.0, "grad_norm/vision": 2.0, "held_out/error/planar2/joint1": 3.0}
    report = {"loss": 0.25, "steps_per_second": 0.5, "data_wait": 0.125, "skipped_steps": 2.0, **norms}
    display.fla_step_ended(10, 1000, report)
    display.fla_step_ended(20, 1000, {"loss": 0.5, "steps_per_second": 100.0, "data_wait": 0.01, "skipped_steps": 0.0})
    display.fla_step_ended(30, 1000, {"held_out/loss": 0.75, **norms})  # validated between two reports
    assert capsys.readouterr().out.splitlines() == [
        "step 10/1000  loss 0.2500  0.5 steps/s  12% waiting for data  2 skipped  33 min left",
        "step 20/1000  loss 0.5000  100 steps/s  10 s left",
        "step 30/1000  held out 0.7500",
    ]
