"""`fla serve` on a trained checkpoint, as a process of its own, asked by the network client."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fla_sdk.client import PolicyClient
from fla_sdk.errors import FlaError, ServerError
from fla_sdk.evaluation.server_process import server_process
from fla_sdk.policy.policy import Policy


@pytest.fixture(scope="module")
def url(trained: Path) -> Iterator[str]:
    with server_process(trained) as address:
        yield address


def test_both_arms_are_served(url: str, trained: Path, registry: object) -> None:
    local = Policy.load(trained, plugins=registry)  # pyright: ignore[reportArgumentType]
    for name in ("planar2", "planar3"):
        observation = local.codecs[name].embodiment.example_observation()
        with PolicyClient(url, embodiment=name) as client:
            actions = client.infer(observation)["actions"]
        # Fresh policies of one seed answer alike, whatever process they live in.
        np.testing.assert_array_equal(actions, local.infer({**observation, "embodiment": name})["actions"])


def test_a_chunk_is_continued_over_the_network(url: str, registry: object) -> None:
    observation = registry.embodiment("planar2").example_observation()  # pyright: ignore[reportAttributeAccessIssue]
    with PolicyClient(url, embodiment="planar2") as client:
        assert client.metadata["fla"]["embodiments"]["planar2"]["rest_mode"] == "guided"
        assert client.metadata["fla"]["features"] == ["deadline", "images", "rest"]
        rest = client.infer(observation)["actions"][3:]
        free, bound = (client.infer(observation, **more)["actions"] for more in ({}, {"rest": rest, "delay": 2}))
        assert np.abs(bound[:2] - rest[:2]).mean() < 0.5 * np.abs(free[:2] - rest[:2]).mean()
        with pytest.raises(ServerError, match="a delay of 4 steps does not fit a chunk of 8 of which 5 are left"):
            client.infer(observation, rest=rest, delay=4)


def test_a_wrong_observation_gets_the_reason_and_the_server_lives_on(url: str, registry: object) -> None:
    good = registry.embodiment("planar2").example_observation()  # pyright: ignore[reportAttributeAccessIssue]
    with PolicyClient(url, embodiment="planar2") as client:
        for change, reason in (
            ({"state": np.zeros(3, np.float32)}, r"must have shape \(2,\) for joint1, joint2; got shape \(3,\)"),
            ({"state": np.array(["a", "b"])}, "must be numbers"),
            ({"images/front": np.zeros((64, 64), np.uint8)}, "camera 'front'"),
            ({"images/front": np.full((64, 64, 3), "x")}, "camera 'front'"),
        ):
            with pytest.raises(ServerError, match=reason) as caught:
                client.infer(good | change)
            assert "Traceback" not in str(caught.value)
            assert client.infer(good)["actions"].shape == (8, 2)


def test_an_embodiment_that_was_not_trained(url: str) -> None:
    with pytest.raises(FlaError, match=r"planar2.*planar3"):
        PolicyClient(url, embodiment="aloha")
