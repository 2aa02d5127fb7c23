"""A small real policy served as its own process: `python golden_server.py PORT [OPTION=VALUE ...]`."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fla_sdk.embodiment import Camera, Embodiment
from fla_sdk.errors import ObservationError
from fla_sdk.policy.interface import Request
from fla_sdk.sample import Sample
from fla_sdk.serving import journal
from fla_sdk.serving.access import tls
from fla_sdk.serving.limits import Limits
from fla_sdk.serving.observer import Exchange, Observer
from fla_sdk.serving.server import serve
from fla_sdk.serving.tokens import Tokens
from fla_sdk.space import Space, gripper, joints

ARM = Embodiment(
    name="arm",
    state=Space(joints("shoulder", "elbow", limits=(-3.0, 3.0)), gripper()),
    action=Space(joints("shoulder", "elbow", predict="relative"), gripper()),
    cameras=(Camera("top", slot="base_0_rgb"), Camera("wrist", slot="left_wrist_0_rgb", required=False)),
    control_hz=20,
)


class GoldenPolicy:
    """Answers with 1, 2 and 3 times the state; the prompt makes it fail, wait for files or answer nonsense."""

    metadata: Mapping[str, Any] = {
        "reset_pose": [0, -1.5, 1.5, 0, 0, 0],
        "name": "golden",
        "scale": np.float32(0.5),
    }

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        prompt = str(observation.get("prompt", ""))
        if prompt.startswith("fail"):
            raise ValueError(f"boom: {prompt}")
        if prompt == "leak":
            raise ValueError("cannot read /home/someone/checkpoints/params/ocdbt.bin in rad/s")
        if prompt == "nonsense":
            return {"actions": {1, 2}}
        if prompt.startswith("wait "):
            folder = Path(prompt.removeprefix("wait "))
            (folder / "started").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        if "state" not in observation:
            raise ObservationError("arm: the state is missing; expected 'state'")
        state = np.asarray(observation["state"])
        factors = np.array([[1], [2], [3]], np.float32)
        images = observation.get("image", {})
        return {
            "actions": (state[None] * factors).astype(np.float32),
            "prompt": prompt,
            "image_sum": int(sum(image.sum(dtype=np.int64) for image in images.values())),
            **({"embodiment": observation["embodiment"]} if "embodiment" in observation else {}),
        }


class GoldenArm(GoldenPolicy):
    """It says whom it drives."""

    embodiments: Mapping[str, Embodiment] = {"arm": ARM}
    default_embodiment = "arm"
    horizon = 3


class GoldenMany(GoldenArm):
    """Answers several robots at once, continues chunks and takes a weight of guidance; checks what it is told."""

    max_batch = 4
    rest_mode = "guided"
    guidance = True

    def prepare(self, request: Request) -> tuple[Request, Sample]:
        return request, ARM.observe(request.observation)

    def infer_many(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(one) for one in requests]

    def _answer(self, one: Any) -> Any:
        try:
            request, sample = self.prepare(one) if isinstance(one, Request) else one
        except ObservationError as error:
            return error
        answer = self.infer({"state": sample.state, "prompt": sample.task, "image": sample.images})
        rest = None if request.rest is None else request.rest.astype(np.float32)
        heard = {"rest": rest, "delay": request.delay, "guidance": request.guidance, "session": request.session}
        return {**answer, "heard": heard}


class Notes(Observer):
    def answered(self, exchange: Exchange) -> None:
        assert exchange.timing is not None
        print(f"called {exchange.embodiment or 'unnamed'} {exchange.timing.infer_ms >= 0}", flush=True)
        if exchange.embodiment == "faulty_observer":
            raise RuntimeError("the observer broke")


def main() -> None:
    options: dict[str, Any] = dict(option.split("=", 1) for option in sys.argv[2:])
    policy = {"": GoldenPolicy, "1": GoldenArm, "many": GoldenMany}[options.pop("robots", "")]()
    known = {
        name: read(options.pop(option))
        for option, (name, read) in {
            "max_message_bytes": ("message_bytes", int),
            "connections": ("connections", int),
            "requests_per_s": ("requests_per_s", float),
        }.items()
        if option in options
    }
    if "token_file" in options:
        options["token"] = Tokens(file=Path(options.pop("token_file")))
    if "certificate" in options:
        options["tls"] = tls(Path(options.pop("certificate")), Path(options.pop("key")))
    if "drain_s" in options:
        options["drain_s"] = float(options["drain_s"])
    observers = [Notes(), journal.Journal()]
    with journal.written("json", options.pop("log", "warning")):
        serve(policy, port=int(sys.argv[1]), observers=observers, limits=Limits(**known), **options)


if __name__ == "__main__":
    main()
