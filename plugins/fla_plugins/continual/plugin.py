"""What continual learning offers to the SDK: regularizers, `fla fisher` and `fla continual`."""

from collections.abc import Iterator

import fla_sdk as fla
from fla_plugins.continual import continual_command, fisher_command
from fla_plugins.continual.distillation import DISTILLATION
from fla_plugins.continual.ewc import EWC, MAS
from fla_plugins.continual.l2sp import L2SP
from fla_plugins.continual.si import SI


@fla.hookimpl
def fla_regularizers() -> Iterator[fla.Regularizer]:
    yield from (EWC, SI, MAS, L2SP, DISTILLATION)


@fla.hookimpl
def fla_commands() -> Iterator[fla.Command]:
    yield from (fisher_command.COMMAND, continual_command.COMMAND)
