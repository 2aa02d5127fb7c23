"""What datasets that many people train on do not say of themselves."""

from collections.abc import Mapping

from fla_plugins.rlds.schema import Leaf

RATES: Mapping[str, float] = {
    "berkeley_autolab_ur5": 5,
    "bridge": 5,
    "bridge_dataset": 5,
    "bridge_orig": 5,
    "fractal20220817_data": 3,
    "jaco_play": 10,
    "taco_play": 15,
    "viola": 20,
}
"""Steps per second, by name (Open X-Embodiment, arXiv:2310.08864, and the table of its datasets; BridgeData V2,
arXiv:2308.12952; RT-1, arXiv:2212.06817)."""

DROID_RATE = 15
"""DROID, arXiv:2403.12945."""

LANGUAGE = (
    "language_instruction",
    "language_instruction_2",
    "language_instruction_3",
    "natural_language_instruction",
    "instruction",
)
"""What the features that hold an instruction are called, without the path before it, by preference."""

_DROID_ACTIONS = ("joint_position", "joint_velocity")


def rate(name: str, steps: Mapping[str, Leaf]) -> float | None:
    """Steps per second, where they are known."""
    return DROID_RATE if droid_actions(steps) else RATES.get(name)


def droid_actions(steps: Mapping[str, Leaf]) -> dict[str, tuple[Leaf, ...]]:
    """The actions that DROID's policies are trained on, which it stores in pieces: `action/joint_position` and
    `action/joint_velocity`, each with the gripper's position behind. Empty for other datasets.

    DROID's own `action` is another one. Recognised by its features: copies have many names.
    """
    found: dict[str, tuple[Leaf, ...]] = {}
    for kind in _DROID_ACTIONS:
        parts = f"action_dict/{kind}", "action_dict/gripper_position"
        if all(part in steps for part in parts):
            found[f"action/{kind}"] = tuple(steps[part] for part in parts)
    return found
