"""Fine-tune vision-language-action models on any robot.

Documentation writes `import fla_sdk as fla`. Every public name is listed below and loaded on first use, so that
importing the package costs next to nothing on a robot's computer.
"""

# Type checkers take a name spelt like this for true; importing `typing` for it would be most of our import time.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from fla_sdk.client import PolicyClient as PolicyClient
    from fla_sdk.codec import Codec as Codec
    from fla_sdk.embodiment import Camera as Camera
    from fla_sdk.embodiment import Conversion as Conversion
    from fla_sdk.embodiment import Embodiment as Embodiment
    from fla_sdk.environment import Environment as Environment
    from fla_sdk.errors import FlaError as FlaError
    from fla_sdk.hookspecs import hookimpl as hookimpl
    from fla_sdk.hookspecs import hookspec as hookspec
    from fla_sdk.model import ActionModel as ActionModel
    from fla_sdk.model import Batch as Batch
    from fla_sdk.model import Losses as Losses
    from fla_sdk.model import ModelInput as ModelInput
    from fla_sdk.model import ModelSpec as ModelSpec
    from fla_sdk.normalization import NormStats as NormStats
    from fla_sdk.plugins import Registry as Registry
    from fla_sdk.plugins import load_plugins as load_plugins
    from fla_sdk.policy.policy import Policy as Policy
    from fla_sdk.records import Beginning as Beginning
    from fla_sdk.records import Benchmark as Benchmark
    from fla_sdk.records import Command as Command
    from fla_sdk.records import DatasetFormat as DatasetFormat
    from fla_sdk.records import ModelFamily as ModelFamily
    from fla_sdk.records import Recipe as Recipe
    from fla_sdk.records import Regularizer as Regularizer
    from fla_sdk.records import Tracker as Tracker
    from fla_sdk.sample import Sample as Sample
    from fla_sdk.space import Field as Field
    from fla_sdk.space import Space as Space
    from fla_sdk.space import gripper as gripper
    from fla_sdk.space import joints as joints
    from fla_sdk.training.config import Source as Source
    from fla_sdk.training.config import TrainConfig as TrainConfig
    from fla_sdk.training.recipe import recipe as recipe
    from fla_sdk.training.trainer import Trainer as Trainer

_HOME = {
    "ActionModel": "fla_sdk.model",
    "Batch": "fla_sdk.model",
    "Beginning": "fla_sdk.records",
    "Benchmark": "fla_sdk.records",
    "Camera": "fla_sdk.embodiment",
    "Codec": "fla_sdk.codec",
    "Command": "fla_sdk.records",
    "Conversion": "fla_sdk.embodiment",
    "DatasetFormat": "fla_sdk.records",
    "Embodiment": "fla_sdk.embodiment",
    "Environment": "fla_sdk.environment",
    "Field": "fla_sdk.space",
    "FlaError": "fla_sdk.errors",
    "Losses": "fla_sdk.model",
    "ModelFamily": "fla_sdk.records",
    "ModelInput": "fla_sdk.model",
    "ModelSpec": "fla_sdk.model",
    "NormStats": "fla_sdk.normalization",
    "Policy": "fla_sdk.policy.policy",
    "PolicyClient": "fla_sdk.client",
    "Recipe": "fla_sdk.records",
    "Registry": "fla_sdk.plugins",
    "Regularizer": "fla_sdk.records",
    "Sample": "fla_sdk.sample",
    "Source": "fla_sdk.training.config",
    "Space": "fla_sdk.space",
    "Tracker": "fla_sdk.records",
    "TrainConfig": "fla_sdk.training.config",
    "Trainer": "fla_sdk.training.trainer",
    "gripper": "fla_sdk.space",
    "hookimpl": "fla_sdk.hookspecs",
    "hookspec": "fla_sdk.hookspecs",
    "joints": "fla_sdk.space",
    "load_plugins": "fla_sdk.plugins",
    "recipe": "fla_sdk.training.recipe",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("fla-sdk")
        if name not in _HOME:
            raise AttributeError(f"module 'fla_sdk' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
