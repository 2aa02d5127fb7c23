"""`fla embodiments [NAME]`: the robots, or one of them with its spaces, units and cameras."""

import argparse

from fla_sdk.embodiment import Embodiment
from fla_sdk.plugins import PluginInfo, Registry
from fla_sdk.records import Command
from fla_sdk.space import UNITS, Space


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="embodiment to describe; all are listed without it")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.name is None:
        longest = max(map(len, registry.embodiments), default=0)
        for name, one in registry.embodiments.items():
            width = f"state {one.state.width}, action {one.action.width}, {one.control_hz:g} Hz"
            print(f"{name:{longest}}  {width:30}  {one.description}")
        return
    embodiment = registry.embodiment(arguments.name)
    for line in _lines(embodiment, registry.provider("embodiment", embodiment.name)):
        print(line)


def _lines(one: Embodiment, provider: PluginInfo) -> list[str]:
    return [
        f"{one.name}: {one.description}",
        f"provided by  {provider.source}",
        f"control      {one.control_hz:g} Hz, {one.control_mode}",
        f"prompt       {one.prompt}",
        f"state        {one.state.width} dimensions",
        *_fields(one.state),
        f"action       {one.action.width} dimensions",
        *_fields(one.action),
        "cameras",
        *(
            f"  {c.name:22} {'to ' + c.slot if c.slot else 'accepted, not used'}{'' if c.required else ', optional'}"
            for c in one.cameras
        ),
    ]


def _fields(space: Space) -> list[str]:
    lines: list[str] = []
    for field in space:
        limits = "" if field.limits is None else f", {field.limits[0]:g} to {field.limits[1]:g}"
        how = ", predicted relative to the state" if field.predict == "relative" else ""
        lines.append(f"  {', '.join(field.names)}")
        lines.append(f"      {field.unit} ({UNITS[field.unit]}){limits}; {field.representation}{how}")
    return lines


COMMAND = Command(name="embodiments", help="list robots, or describe one", configure=configure, run=run)
