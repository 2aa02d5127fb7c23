"""`Reports`: what the steps since the last report measured, read from the devices once."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import FlaError
from fla_sdk.training.step import Metrics


class NonFiniteLoss(FlaError):
    """Loss or gradient became infinite or not a number, more often than the run may leave out."""


class Reports:
    """Collects metrics without waiting for them, and judges those that are not finite."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        skip_steps: int,
        tell: Callable[[str], None],
        name_rows: Callable[[NDArray[np.int32]], str],
    ) -> None:
        """`paths` of the trainable parameters, sorted. `skip_steps` may be skipped in a run. `name_rows` says which
        episodes the rows of a batch are of.
        """
        self._paths, self._budget, self._tell, self._name_rows = tuple(paths), skip_steps, tell, name_rows
        self._window: list[tuple[int, Metrics, NDArray[np.int32] | None]] = []
        self._begun = time.monotonic()
        self._waited_s = 0.0
        self.skipped = 0
        """Steps of this run that changed nothing."""

        self.healthy = True
        """Whether the last step that was read changed something."""

    def __len__(self) -> int:
        return len(self._window)

    def add(self, step: int, metrics: Metrics, origin: NDArray[np.int32] | None) -> None:
        """Remember what `step` measured; nothing is read yet."""
        self._window.append((step, metrics, origin))

    def leave_out(self, seconds: float) -> None:
        """Time that the run spent on something else than steps, since the last report."""
        self._begun += seconds

    def read(self, *, waited_s: float) -> dict[str, float]:
        """Means over the steps since the last call; waits for the last of them.

        Raises `NonFiniteLoss` when more steps than the budget were skipped. `waited_s` is how long the run has waited
        for data in all.
        """
        window, self._window = self._window, []
        measured: list[Metrics] = jax.device_get([metrics for _, metrics, _ in window])
        elapsed = time.monotonic() - self._begun
        for (step, _, origin), metrics in zip(window, measured, strict=True):
            self.healthy = bool(metrics.taken)
            if not self.healthy:
                self._judge(step, metrics, origin)
        taken = [metrics for metrics in measured if metrics.taken] or measured
        report = {name: _mean([m.scalars[name] for m in taken]) for name in taken[0].scalars}
        report |= _pooled([m.means for m in taken])
        report["steps_per_second"] = len(window) / elapsed
        report["data_wait"] = (waited_s - self._waited_s) / elapsed
        report["skipped_steps"] = float(self.skipped)
        self._begun, self._waited_s = time.monotonic(), waited_s
        return report

    def _judge(self, step: int, metrics: Metrics, origin: NDArray[np.int32] | None) -> None:
        self.skipped += 1
        bad = [path for path, norm in zip(self._paths, metrics.gradient_norms, strict=True) if not np.isfinite(norm)]
        where = f"the gradient of {', '.join(bad[:3])}" + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        what = (
            f"step {step} is not finite: loss {float(metrics.scalars['loss']):g}, {where if bad else 'no gradient'}; "
            f"its batch: {'not known' if origin is None else self._name_rows(origin)}"
        )
        if self.skipped > self._budget:
            raise NonFiniteLoss(
                f"{what}. {self.skipped} such steps, {self._budget} may be skipped (skip_steps); "
                "lower optimizer.peak_lr, or check the data with `fla data check`"
            )
        self._tell(f"skipped: {what} ({self.skipped} of {self._budget})")


def _mean(values: Sequence[Any]) -> float:
    return float(np.mean([float(value) for value in values]))


def _pooled(windows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over all samples; what no sample had is left out."""
    found: dict[str, float] = {}
    for name in windows[0] if windows else ():
        total, count = (sum(float(window[name][i]) for window in windows) for i in (0, 1))
        if count:
            found[name] = total / count
    return found
