"""More devices and more processes give the numbers of one."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_sdk.errors import ConfigError
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import to_yaml
from fla_sdk.training.hosts import Hosts, find

_SCRIPT = Path(__file__).parent / "scaled_run.py"
_LIMIT_S = 400


class Scaled:
    """A run in processes of its own."""

    def __init__(self, config: Any, folder: Path, *, devices: int, processes: int = 1) -> None:
        folder.mkdir(exist_ok=True)
        file = folder / "config.yaml"
        file.write_text(to_yaml(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started: list[subprocess.Popen[str]] = []
        for number in range(processes):
            environment = {
                **os.environ,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "JAX_PLATFORMS": "cpu",
            }
            if processes > 1:
                environment |= {
                    "FLA_COORDINATOR": f"127.0.0.1:{port}",
                    "FLA_PROCESSES": str(processes),
                    "FLA_PROCESS": str(number),
                }
            command = [sys.executable, str(_SCRIPT), str(file)]
            pipes: Mapping[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            started.append(subprocess.Popen(command, env=environment, **pipes))
        said = [process.communicate(timeout=_LIMIT_S)[0] for process in started]
        assert [process.returncode for process in started] == [0] * processes, "\n".join(said)
        self.said = said
        self.shown = json.loads(said[0].splitlines()[-1])
        lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
        self.losses = [line["loss"] for line in lines]
        self.params = checkpoint.read_params(checkpoint.find(config.out))


@pytest.fixture(scope="module")
def alone(small_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Scaled:
    folder = tmp_path_factory.mktemp("alone")
    return Scaled(_config(small_run, folder), folder, devices=1)


def _config(small_run: Callable[..., Any], folder: Path, **changes: Any) -> Any:
    return small_run(folder / "run", steps=4, batch_size=8, save_every=2, **changes)


def _same(one: Scaled, other: Scaled) -> None:
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
    for path, leaf in other.params.items():
        if path.endswith("/key/bias"):  # a shift of all keys changes nothing: its gradient is rounding
            continue
        # Adam's first steps divide rounding by rounding where a gradient is nearly zero.
        close = np.isclose(one.params[path], leaf, rtol=1e-4, atol=1e-5)
        assert close.mean() > 0.999, f"{path}: {1 - close.mean():.2%} differ"


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(alone: Scaled, small_run: Callable[..., Any], tmp_path: Path) -> None:
    many = Scaled(_config(small_run, tmp_path, fsdp_devices=4), tmp_path, devices=8)
    assert many.shown["devices"] == 8
    split = {path: (whole, piece) for path, (whole, piece) in many.shown["spread"].items() if whole != piece}
    assert len(split) > 20
    assert all(np.prod(whole) == 4 * np.prod(piece) for whole, piece in split.values())
    _same(many, alone)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_and_write_one_checkpoint(
    alone: Scaled, small_run: Callable[..., Any], tmp_path: Path
) -> None:
    config = _config(small_run, tmp_path, fsdp_devices=2)
    both = Scaled(config, tmp_path, devices=1, processes=2)
    assert both.shown["devices"] == 2
    assert "step 4/4" in both.said[0] and "step 4/4" not in both.said[1]
    assert checkpoint.steps(config.out / "checkpoints") == [2, 4]
    _same(both, alone)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "1"}, None),  # a job of independent runs
        (
            {"FLA_COORDINATOR": "node0:1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "1"},
            Hosts(coordinator="node0:1234", count=4, number=1),
        ),
        (
            {"FLA_COORDINATOR": "a:1", "FLA_PROCESSES": "3", "JOB_COMPLETION_INDEX": "2"},
            Hosts(coordinator="a:1", count=3, number=2),
        ),
    ],
)
def test_processes_find_each_other(environment: dict[str, str], expected: Hosts | None) -> None:
    assert find(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLA_PROCESSES": "2", "FLA_PROCESS": "0"}, "need FLA_COORDINATOR"),
        ({"FLA_COORDINATOR": "a:1"}, "how many processes there are"),
        ({"FLA_COORDINATOR": "a:1", "FLA_PROCESSES": "2", "FLA_PROCESS": "2"}, "process 2 of 2"),
        ({"FLA_COORDINATOR": "a", "FLA_PROCESSES": "2", "FLA_PROCESS": "1"}, "has no port"),
        ({"FLA_COORDINATOR": "a:1", "FLA_PROCESSES": "two", "FLA_PROCESS": "1"}, "FLA_PROCESSES is 'two'"),
    ],
)
def test_what_processes_say_must_be_complete(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find(environment)
