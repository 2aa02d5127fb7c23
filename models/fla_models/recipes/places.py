"""Where weights and data of recipes are."""

import fla_sdk as fla

CHECKPOINTS = "gs://openpi-assets/checkpoints"
"""Folder of what openpi publishes; `<family>_base` in it are the pre-trained weights."""

PALIGEMMA = "gs://vertex-model-garden-paligemma-us/paligemma/pt_224.npz"
GEMMA3 = "hf://google/gemma-3-4b-pt"

_RANGES = "gs://openpi-assets/droid"


def base(family: str) -> str:
    """The published weights of `pi0`, `pi05` or `pi0_fast` that fine-tuning starts from."""
    return f"{CHECKPOINTS}/{family}_base"


def hub(name: str, embodiment: str, *, prompt: str = "{task}", weight: float = 1.0) -> fla.Source:
    """A LeRobot dataset of the Hugging Face Hub."""
    return fla.Source(data=f"hf://datasets/{name}", embodiment=embodiment, prompt=prompt, weight=weight)


def rlds(name: str, embodiment: str, *, weight: float = 1.0, options: str = "") -> fla.Source:
    """An RLDS dataset that nobody can fetch for the user: a blank to be filled in."""
    query = f"?{options}" if options else ""
    return fla.Source(data=f"<{name}>{query}", embodiment=embodiment, weight=weight)


def droid(name: str, ranges: str, embodiment: str = "droid_jointpos", *, weight: float = 1.0) -> fla.Source:
    """DROID, or a dataset of its form, as openpi trains on it: what succeeded, without idle moments."""
    options = f"match=success&language=all&ranges={_RANGES}/{ranges}.json"
    return rlds(name, embodiment, weight=weight, options=options)


LIBERO = hub("physical-intelligence/libero", "libero")
PEN = hub("physical-intelligence/aloha_pen_uncap_diverse", "aloha", prompt="uncap the pen")
CUBE = hub("lerobot/aloha_sim_transfer_cube_human", "aloha_sim", prompt="Transfer cube")
DROID = droid("droid 1.0.1", "droid_sample_ranges_v1_0_1")
POLARIS = droid("polaris_droid_cotrain_dataset 1.0.0", "polaris_droid_cotrain_dataset_sample_ranges_v1_0_0")
