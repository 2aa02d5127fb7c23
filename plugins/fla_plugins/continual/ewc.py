"""Regularizers `ewc` and `mas`: parameters that matter to what was learned are held where they are.

What matters is the diagonal of the Fisher information to EWC (Kirkpatrick et al., arXiv:1612.00796), and how far the
output moves to MAS (Aljundi et al., arXiv:1711.09601). `fla fisher` finds both.
"""

import functools

import fla_sdk as fla
from fla_plugins.continual import anchored

EWC = fla.Regularizer(
    name="ewc",
    description="hold parameters in proportion to their Fisher information (elastic weight consolidation)",
    prepare=functools.partial(anchored.prepare, "ewc"),
    penalty=anchored.penalty,
)
MAS = fla.Regularizer(
    name="mas",
    description="hold parameters in proportion to how far they move the output (memory aware synapses)",
    prepare=functools.partial(anchored.prepare, "mas"),
    penalty=anchored.penalty,
)
