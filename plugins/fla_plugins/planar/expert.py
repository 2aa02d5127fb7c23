"""`PlanarExpert`: reaches the named target by inverse kinematics, and stays."""

import numpy as np
from numpy.typing import NDArray

from fla_plugins.planar.environment import PlanarEnvironment
from fla_sdk.environment import Environment
from fla_sdk.errors import ConfigError


class PlanarExpert:
    """Commands the pose of the goal from the first step on; the arm's own speed limit makes a path of it.

    So the right action depends on the picture and the instruction alone. An expert that commanded small steps would
    show how to continue a movement, which a policy learns from the joints without ever looking at the targets.
    """

    def __init__(self, environment: PlanarEnvironment) -> None:
        self._environment, self._goal = environment, environment.goal
        self._pose = environment.arm.inverse(self._goal)

    def __call__(self) -> NDArray[np.float64]:
        """The joint angles `[N]` in radians to be at."""
        goal = self._environment.goal
        if not np.array_equal(goal, self._goal):  # the inverse takes longer than the picture
            self._goal, self._pose = goal, self._environment.arm.inverse(goal)
        return self._pose.copy()


def expert(environment: Environment, seed: int) -> PlanarExpert:
    """The demonstrator of an environment that was just reset. It draws nothing, so `seed` changes nothing."""
    del seed
    if not isinstance(environment, PlanarEnvironment):
        raise ConfigError(
            f"the planar expert reads the true state of a PlanarEnvironment, not of {type(environment).__name__}"
        )
    return PlanarExpert(environment)
