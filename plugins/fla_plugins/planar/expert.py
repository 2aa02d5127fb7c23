"""`PlanarExpert`: reaches the named target by inverse kinematics, and stays."""

import numpy as np
from numpy.typing import NDArray

from fla_plugins.planar.environment import PlanarEnvironment
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError


class PlanarExpert:
    """Moves all joints in proportion, at a constant speed, straight to the goal's pose, and holds it.

    What it does depends on where the arm is, not on when: a policy that sees one moment can learn it. `noise`, a
    fraction of the step, leads it beside the straight path on the way and fades to nothing at the goal, so that
    demonstrations also show how to come back.
    """

    def __init__(self, environment: PlanarEnvironment, *, seed: int, speed: float = 0.12, noise: float = 0.2) -> None:
        """`speed` is the largest step of a joint in radians per control step."""
        self._environment = environment
        self._pose = environment.arm.inverse(environment.goal)
        self._rng = np.random.default_rng(seed)
        self._speed = min(speed, environment.rules.speed_limit)
        self._noise = noise

    def __call__(self) -> NDArray[np.float64]:
        """The joint angles `[N]` in radians to be at after the next step."""
        joints = self._environment.joints
        way = self._pose - joints
        longest = float(np.abs(way).max())
        step = way * min(1.0, self._speed / max(longest, 1e-12))
        stray = self._noise * np.abs(step).max() * self._rng.standard_normal(joints.size)
        # Within one step of the goal there is no room left to correct: go there.
        return joints + step + (stray if longest > self._speed else 0.0)


def expert(environment: Environment, seed: int) -> PlanarExpert:
    """The demonstrator of an environment that was just reset; `seed` draws its noise."""
    if not isinstance(environment, PlanarEnvironment):
        raise ConfigError(
            f"the planar expert reads the true state of a PlanarEnvironment, not of {type(environment).__name__}"
        )
    return PlanarExpert(environment, seed=seed)
