"""Several processes as one run: how they find each other, and what only one of them does."""

import os
from collections.abc import Mapping

import attrs
import jax
import numpy as np

from fla_sdk.errors import ConfigError

TIMEOUT_S = 300
"""How long processes wait for each other at the start."""


@attrs.frozen(kw_only=True)
class Hosts:
    """Where the processes of a run meet."""

    coordinator: str
    """`ADDRESS:PORT` of the first process."""

    count: int
    number: int
    """0 to `count` - 1."""

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ConfigError(f"process {self.number} of {self.count}: processes are numbered from 0")
        if ":" not in self.coordinator:
            raise ConfigError(f"the coordinator's address {self.coordinator!r} has no port, such as node0:1234")


def find(environment: Mapping[str, str]) -> Hosts | None:
    """What the environment says about the processes of this run; None for a run of one process.

    `FLA_COORDINATOR`, `FLA_PROCESSES` and `FLA_PROCESS` anywhere; without the last two, SLURM's variables or those of a
    Kubernetes indexed job say them. Raises `ConfigError` when they are incomplete.
    """
    coordinator = environment.get("FLA_COORDINATOR")
    count = _first(environment, "FLA_PROCESSES", "SLURM_NTASKS")
    number = _first(environment, "FLA_PROCESS", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
    if coordinator is None:
        if "FLA_PROCESSES" in environment or "FLA_PROCESS" in environment:
            raise ConfigError("FLA_PROCESSES and FLA_PROCESS need FLA_COORDINATOR, ADDRESS:PORT of process 0")
        return None
    if count is None or number is None:
        raise ConfigError(
            "FLA_COORDINATOR is set, but not how many processes there are and which this one is: set FLA_PROCESSES and "
            "FLA_PROCESS (SLURM's own variables and a Kubernetes job's JOB_COMPLETION_INDEX do as well)"
        )
    return Hosts(coordinator=coordinator, count=count, number=number)


def join(environment: Mapping[str, str] = os.environ) -> None:
    """Meet the other processes, if there are any. Call it before anything asks for devices."""
    hosts = find(environment)
    if hosts is None or hosts.count == 1 or jax.distributed.is_initialized():
        return
    jax.distributed.initialize(hosts.coordinator, hosts.count, hosts.number, initialization_timeout=TIMEOUT_S)


def is_first() -> bool:
    """Whether this process writes and speaks for the run."""
    return jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """Whether `flag` is set in any process. All of them must ask at the same moment."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.asarray(multihost_utils.process_allgather(np.array(flag))).any())


def meet(what: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def _first(environment: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        if name in environment:
            try:
                return int(environment[name])
            except ValueError as error:
                raise ConfigError(f"{name} is {environment[name]!r}, must be a whole number") from error
    return None
