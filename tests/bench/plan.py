"""What `fla plan` says of the published Pi0.5, and how near its estimate comes to what a compiler allocates.

    .venv/bin/python tests/bench/plan.py [--gpu h100] [--compile]

With `--compile` the step of Pi0.5 in its published proportions (a sixteenth of the work, float32, batch 8),
compiled for the CPU: its temporaries, and the estimate. A minute for each. Not the published size: a CPU does not
update parameters in place, which is then most of its temporaries; and not bfloat16, of which a CPU makes copies.
"""

import argparse

import attrs
import jax
from proportions import quarter

from fla_sdk.config import unstructure
from fla_sdk.plugins import Registry, load_plugins
from fla_sdk.terminal import size
from fla_sdk.training.demand import UTILISATION
from fla_sdk.training.devices import known
from fla_sdk.training.plan import USABLE
from fla_sdk.training.preparation import resolve_model
from fla_sdk.training.workload import Workload

RECIPES = ("pi05_frozen_backbone", "pi05_lora", "pi05_full_finetune")
BATCHES = (1, 8, 32)


def table(registry: Registry, gpu: str) -> None:
    """Memory, and samples per second at most and as large models are trained."""
    device = known(gpu)
    print(
        f"{gpu:20} batch  state      step       in all     largest   at most   at {UTILISATION:.0%} of the matrix rate"
    )
    for name in RECIPES:
        for batch in BATCHES:
            config = attrs.evolve(registry.recipe(name).config(), batch_size=batch)
            work = Workload(config, registry, devices=1)
            memory, floor = work.memory(), work.floor(device)
            assert floor is not None
            largest = work.largest_batch(USABLE * device.memory) if batch == BATCHES[-1] else ""
            sizes = "  ".join(f"{size(n):9}" for n in (memory.state, memory.total - memory.state, memory.total))
            likely = floor.products / UTILISATION + floor.update
            print(
                f"{name:20} {batch:5}  {sizes}  {largest:7}  {batch / floor.total:6.1f}/s  {batch / likely:6.1f}/s",
                flush=True,
            )


def comparison(registry: Registry) -> None:
    """Estimate and compiled, for each recipe."""
    for name in RECIPES:
        config = registry.recipe(name).config()
        small = unstructure(quarter(resolve_model(config.model, config.model_options, registry)[1]))
        config = attrs.evolve(config, model_options=small, batch_size=8, frozen_dtype="float32")
        work = Workload(config, registry, devices=1)
        compiled = jax.jit(work.step, donate_argnums=0).lower(*work.arguments(8)).compile()
        found = compiled.memory_analysis()
        assert found is not None
        estimate, allocated = work.cost(8).memory, found.temp_size_in_bytes
        print(
            f"{name:20} estimate {size(estimate)}, compiled {size(allocated)}: x {estimate / allocated:.2f}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", default="h100")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    registry = load_plugins()
    if arguments.compile:
        comparison(registry)
    else:
        table(registry, arguments.gpu)


if __name__ == "__main__":
    main()
