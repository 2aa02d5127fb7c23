"""Executors: one action per control step from a policy that answers with chunks of them."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from fla_sdk.policy.interface import PolicyLike


class ActionChunk(NamedTuple):
    """What the policy wants to do from one observation on."""

    actions: NDArray[np.floating]
    """`[T, A]`, one row per control step, in the embodiment's units; finite."""

    reply: Mapping[str, Any]
    """The whole reply, with `server_timing` and whatever else the policy reported."""

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> "ActionChunk":
        """Check the `actions` of a reply; raises `ServerError` when a robot could not execute them."""
        if "actions" not in reply:
            raise ServerError(f"the reply has no 'actions'; it has {', '.join(sorted(reply)) or 'nothing'}")
        actions = np.asarray(reply["actions"])
        if actions.ndim != 2 or actions.shape[0] == 0 or actions.dtype.kind not in "fiu":
            raise ServerError(
                f"actions must be numbers [T, A] with T >= 1, got {actions.dtype} of shape {actions.shape}"
            )
        if not np.isfinite(actions).all():
            raise ServerError(f"actions are not finite in step {int(np.argwhere(~np.isfinite(actions))[0, 0])}")
        return cls(actions, reply)


class Executor(Protocol):
    """Decides what the robot does in each control step."""

    def act(self, observe: Callable[[], Mapping[str, Any]]) -> NDArray[np.floating]:
        """The next action `[A]`. Calls `observe` at most once, and only when the policy is asked."""
        ...

    def reset(self) -> None:
        """A new episode begins."""
        ...


class ChunkExecutor:
    """Open-loop execution with a receding horizon: run `replan` actions of a chunk, then observe and ask again.

    Blocking: the robot waits while the policy thinks.
    """

    def __init__(self, policy: "PolicyLike", *, replan: int | None = None) -> None:
        """`policy` is a `PolicyClient` or a policy in this process; `replan` None executes each chunk to its end."""
        if replan is not None and replan < 1:
            raise ConfigError(f"replan is {replan}, must be at least 1 action per chunk")
        self._policy = policy
        self._replan = replan
        self._chunk: ActionChunk | None = None
        self._done = 0
        self._observed_s: float | None = None

    @property
    def age_s(self) -> float | None:
        """How long ago the observation was taken that the current actions come from; None before the first."""
        return None if self._observed_s is None else time.monotonic() - self._observed_s

    @property
    def chunk(self) -> ActionChunk | None:
        """The chunk being executed; None before the first action of an episode."""
        return self._chunk

    def act(self, observe: Callable[[], Mapping[str, Any]]) -> NDArray[np.floating]:
        """The next action `[A]`. Calls `observe` only when the policy must be asked, so cameras can rest meanwhile.

        Raises what `infer` raises; the next call then observes and asks again.
        """
        if self._chunk is None or self._done >= (self._replan or len(self._chunk.actions)):
            observed_s = time.monotonic()
            chunk = ActionChunk.from_reply(self._policy.infer(observe()))
            if self._replan is not None and self._replan > len(chunk.actions):
                raise ConfigError(
                    f"replan is {self._replan}, but the policy answers with chunks of {len(chunk.actions)} actions; "
                    f"choose replan between 1 and {len(chunk.actions)}"
                )
            self._chunk, self._done, self._observed_s = chunk, 0, observed_s
        action = self._chunk.actions[self._done].copy()
        self._done += 1
        return action

    def reset(self) -> None:
        """Forget the chunk: call it between episodes."""
        self._chunk, self._done, self._observed_s = None, 0, None
