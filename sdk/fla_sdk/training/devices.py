"""`Device`: what a graphics processor has, as its maker's data sheet says."""

from collections.abc import Mapping

import attrs

from fla_sdk.errors import ConfigError, UnknownNameError

GB = 1e9


@attrs.frozen(kw_only=True)
class Device:
    """One of the equal devices of a run."""

    name: str
    memory: float
    """Bytes."""

    matrix_rate: float | None = None
    """Operations per second on dense bfloat16 matrices, summed in float32; matrices of float32 (TF32) take twice as
    long on all of these. None where it is not known, like the other rates."""

    bandwidth: float | None = None
    """Bytes per second between the processor and its memory."""

    link: float | None = None
    """Bytes per second to the other devices of the host, in each direction."""

    def __attrs_post_init__(self) -> None:
        if self.memory <= 0:
            raise ConfigError(f"device {self.name}: memory is {self.memory:g} bytes, must be above 0")


_NVLINK = {3: 300.0, 4: 450.0, 5: 900.0}
"""Generation -> GB/s in each direction, half of what the data sheets sum up."""

_PCIE = {4: 32.0, 5: 64.0}

# Data sheets of NVIDIA: A100 (2021), H100 (2023) and H200 (2024) as SXM, HGX B200 (2025), L4 and L40S (2023), RTX A6000
# (2020), RTX PRO 6000 Blackwell (2025); white papers of the architectures GA102 (RTX 3090), AD102 (RTX 4090) and RTX
# Blackwell (RTX 5090). Rates without sparsity: the data sheets of Hopper and later print twice as much.
_TABLE: Mapping[str, tuple[float, float, float, float]] = {
    # memory GB, matrices TFLOP/s, memory GB/s, links GB/s
    "a100-40": (40, 312, 1555, _NVLINK[3]),
    "a100-80": (80, 312, 2039, _NVLINK[3]),
    "h100": (80, 989, 3350, _NVLINK[4]),
    "h200": (141, 989, 4800, _NVLINK[4]),
    "b200": (180, 2250, 7700, _NVLINK[5]),
    "l4": (24, 121, 300, _PCIE[4]),
    "l40s": (48, 362, 864, _PCIE[4]),
    "a6000": (48, 155, 768, _PCIE[4]),
    "pro6000": (96, 504, 1792, _PCIE[5]),
    "3090": (24, 71, 936, _PCIE[4]),
    "4090": (24, 165, 1008, _PCIE[4]),
    "5090": (32, 209.5, 1792, _PCIE[5]),
}

DEVICES: Mapping[str, Device] = {
    name: Device(name=name, memory=memory * GB, matrix_rate=rate * 1e12, bandwidth=bandwidth * GB, link=link * GB)
    for name, (memory, rate, bandwidth, link) in _TABLE.items()
}


def known(name: str) -> Device:
    """The device of a name in `DEVICES`, such as `h100` or `RTX 4090`. Raises with the nearest."""
    plain = name.lower().replace("rtx", "").strip(" -_")
    if plain not in DEVICES:
        raise UnknownNameError("GPU", name, DEVICES)
    return DEVICES[plain]


def of_memory(text: str) -> Device:
    """A device of which only the memory is known: `24GB`, `24 GiB` or `24` (GB)."""
    units = {"gib": 2**30, "gb": GB, "g": GB, "": GB}
    number = text.strip().lower()
    for unit, factor in units.items():
        if number.endswith(unit):
            try:
                return Device(name=text.strip(), memory=float(number[: len(number) - len(unit)]) * factor)
            except ValueError:
                break
    raise ConfigError(f"memory {text!r} is no size; write 24GB or 24GiB")
