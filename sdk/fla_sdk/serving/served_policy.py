"""`ServedPolicy`: what a policy can do besides `infer`, read off it once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs

from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, ObservationError, UnknownNameError
from fla_sdk.policy.interface import PolicyLike, Request, RestMode

Prepare = Callable[[Request], Any]


@attrs.frozen(kw_only=True, eq=False)
class ServedPolicy:
    """A policy behind one face, whether it answers robots together or one by one."""

    policy: PolicyLike
    embodiments: Mapping[str, Embodiment]
    """Empty when the policy does not say whom it drives."""

    default_embodiment: str | None
    horizon: int | None
    max_batch: int
    rest_mode: RestMode
    guidance: bool
    prepare: Prepare | None
    """The part that needs no model, for any thread."""

    @classmethod
    def of(cls, policy: PolicyLike) -> "ServedPolicy":
        """Raises `ConfigError` when what the policy says about itself makes no sense."""
        embodiments = dict(cast("Mapping[str, Embodiment]", getattr(policy, "embodiments", None) or {}))
        default = getattr(policy, "default_embodiment", None)
        if default is not None and embodiments and default not in embodiments:
            raise UnknownNameError("embodiment", str(default), embodiments)
        many = hasattr(policy, "infer_many")
        max_batch = int(getattr(policy, "max_batch", 1)) if many else 1
        if max_batch < 1:
            raise ConfigError(f"max_batch of the policy is {max_batch}, must be at least 1")
        return cls(
            policy=policy,
            embodiments=embodiments,
            default_embodiment=default,
            horizon=getattr(policy, "horizon", None),
            max_batch=max_batch,
            rest_mode=getattr(policy, "rest_mode", "none") if many else "none",
            guidance=many and bool(getattr(policy, "guidance", False)),
            prepare=getattr(policy, "prepare", None) if many else None,
        )

    @property
    def features(self) -> list[str]:
        """What clients may make use of, as the protocol names it."""
        known = {"rest": self.rest_mode != "none", "guidance": self.guidance, "images": True, "deadline": True}
        return sorted(name for name, has in known.items() if has)

    def check(self, request: Request) -> None:
        """Raise `ObservationError` when the request wants what the policy cannot do."""
        if request.rest is not None and self.rest_mode == "none":
            raise ObservationError("this policy cannot continue a chunk: leave out 'rest', and wait for each answer")
        if request.guidance is not None and not self.guidance:
            raise ObservationError(
                "this policy takes no weight of guidance: serve a model that was trained with advantages with "
                "--guidance, or leave out 'guidance'"
            )

    def group(self, request: Request) -> tuple[int, bool, bool]:
        """Requests of one group are answered by one call of the model."""
        return id(self), request.rest is not None, request.guidance not in (None, 1)

    def answer(self, requests: Sequence[Any]) -> Sequence[Any]:
        """For each request, or what `prepare` made of it, an answer or the error to tell. Raises what the policy does.

        When a batch fails, each request is tried alone: only the one at fault shall hear of it.
        """
        if not hasattr(self.policy, "infer_many"):
            return [self._alone(request) for request in requests]
        infer_many = cast("Callable[[Sequence[Any]], Sequence[Any]]", self.policy.infer_many)  # type: ignore[attr-defined]
        try:
            answers = infer_many(requests)
        except Exception:
            if len(requests) == 1:
                raise
            return [self._tried(infer_many, request) for request in requests]
        if len(answers) != len(requests):
            raise TypeError(f"infer_many returned {len(answers)} answers to {len(requests)} requests")
        return answers

    def _alone(self, request: Request) -> Any:
        try:
            return self.policy.infer(request.observation)
        except Exception as error:
            return error

    def _tried(self, infer_many: Callable[[Sequence[Any]], Sequence[Any]], request: Any) -> Any:
        try:
            return infer_many([request])[0]
        except Exception as error:
            return error
