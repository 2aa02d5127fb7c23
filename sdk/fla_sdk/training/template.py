"""`commented`: a training config to write in, with a comment above each field that people change."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from fla_sdk.config import unstructure
from fla_sdk.records import Recipe
from fla_sdk.training.config import Source, TrainConfig
from fla_sdk.training.recipe import change, fill

COMMENTS: Mapping[str, str] = {
    "model": "FAMILY/VARIANT of `fla models`.",
    "model_options": "Fields of the variant's config, such as horizon: actions in a chunk.",
    "sources": "Datasets and the robots that made them (`fla embodiments`); several are mixed by weight.\n"
    "prompt is what the robot is told, {task} what the dataset says; hold_out is a share that is only measured on.",
    "stats": "Statistics to use instead of those of the data: the robot's, where the weights were trained with it.",
    "steps": "Optimizer steps, and samples in each. A batch that does not fit is computed in parts: accumulate.",
    "batch_size": "",
    "accumulate": "",
    "optimizer": "The learning rate rises to peak_lr within warmup_steps and falls to end_lr until decay_steps.",
    "ema_decay": "Average over time that is served; null serves the last parameters.",
    "freeze": "Parameter groups that are not trained: vision, language, action_expert, projections, lora.",
    "init": "Weights to start from: a checkpoint, a file, gs://..., hf://..., or scratch.",
    "init_fresh": "Groups that begin anew where the weights lack them.",
    "out": "Folder of the run, how often it saves, and what it keeps.",
    "save_every": "",
    "keep_last": "",
}
"""Fields that are always written, in this order, and what is said above them. Others follow where they are set."""


def commented(recipe: Recipe, *, run: str, data: Sequence[str] = (), embodiments: Sequence[str] = ()) -> str:
    """YAML that `from_yaml` reads: `recipe` for data of one's own. What is not given is left blank for the user."""
    import yaml

    config = recipe.config()
    given = {"embodiment": embodiments}
    if data:
        config = change(config, {"sources": fill(config.sources, data, given, name=recipe.name)}, where=recipe.name)
    elif embodiments or not config.sources:
        blanks = [Source(data="<your dataset>", embodiment=name) for name in embodiments or ("<your robot>",)]
        config = change(config, {"sources": blanks}, where=recipe.name)
    tree = unstructure(attrs.evolve(config, out=Path("out") / run))
    plain = unstructure(TrainConfig(model=config.model))
    lines = [
        f"# {run}: `fla train` with the name of this file. From `fla recipes {recipe.name}`:",
        f"# {recipe.description}.",
    ]
    lines += textwrap.wrap(recipe.notes, 110, initial_indent="# ", subsequent_indent="# ")
    for field in (*COMMENTS, *(field for field in tree if field not in COMMENTS and tree[field] != plain[field])):
        lines += ["", *(f"# {line}" for line in COMMENTS[field].splitlines())] if COMMENTS.get(field) else []
        lines += yaml.safe_dump({field: tree[field]}, sort_keys=False).splitlines()
    return "\n".join(lines) + "\n"
