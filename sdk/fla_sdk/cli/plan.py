"""`fla plan RECIPE --gpu NAME`: whether a training fits, and how fast it can be, without the GPU."""

import argparse
import json

from fla_sdk.cli.train import assignment, named
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a name of `fla recipes`, or a YAML file")
    device = parser.add_mutually_exclusive_group(required=True)
    device.add_argument("--gpu", metavar="NAME", help="h100, h200, b200, a100-40, a100-80, l40s, 4090, 5090, ...")
    device.add_argument("--memory", metavar="SIZE", help="of any other device: 24GB")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="how many of them, all alike")
    parser.add_argument("--fsdp-devices", type=int, metavar="N", help="over how many of them the state is split")
    parser.add_argument("--batch-size", type=int, metavar="N", help="of all devices together")
    parser.add_argument(
        "--embodiment", action="append", default=[], metavar="NAME", help="robot, for its cameras; default all slots"
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in `fla train`")
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def run(arguments: argparse.Namespace, registry: Registry) -> int:
    """Exit status 0 when it fits, 3 when it does not."""
    from fla_sdk.config import unstructure
    from fla_sdk.training import devices
    from fla_sdk.training.config import Source
    from fla_sdk.training.plan import plan
    from fla_sdk.training.recipe import change

    device = devices.of_memory(arguments.memory) if arguments.memory else devices.known(arguments.gpu)
    changes = dict(assignment(text) for text in arguments.set)
    for name in ("batch_size", "fsdp_devices"):
        if (value := getattr(arguments, name)) is not None:
            changes[name] = value
    if arguments.embodiment:
        changes["sources"] = [Source(data=f"<{name}>", embodiment=name) for name in arguments.embodiment]
    config = change(named(arguments.recipe, registry), changes, where="command line")
    found = plan(config, registry, device=device, devices=arguments.devices)
    if arguments.json:
        print(json.dumps({**unstructure(found), "total": found.memory.total, "fits": found.fits}, indent=2))
    else:
        print(found.describe())
    return 0 if found.fits else 3


COMMAND = Command(
    name="plan", help="say whether a training fits a GPU, and how fast it can be", configure=configure, run=run
)
