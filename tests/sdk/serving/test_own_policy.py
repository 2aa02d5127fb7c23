"""A user's own class behind the server, as docs/serving.md shows it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from fla_embodiments.planar import PLANAR2
from fla_sdk.client import PolicyClient

DOCUMENT = Path(__file__).parents[3] / "docs" / "serving.md"


def test_the_policy_of_the_page_drives_a_robot() -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert "port=8000" in source
    process = subprocess.Popen(
        [sys.executable, "-c", source.replace("port=8000", "port=0")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        observation = PLANAR2.example_observation()
        with PolicyClient(url, embodiment="planar2") as client:
            assert client.horizon == 20
            actions = client.infer(observation)["actions"]
        np.testing.assert_allclose(actions[-1], observation["state"] * 0.99**20, rtol=1e-5)
    finally:
        process.terminate()
        process.communicate(timeout=60)
