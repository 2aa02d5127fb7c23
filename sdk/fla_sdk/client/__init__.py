"""What runs on the robot: needs only numpy, msgpack and websockets, on Python 3.10 and newer.

from fla_sdk.client import ChunkExecutor, PolicyClient

with PolicyClient("ws://gpu-box:8000", embodiment="so101") as policy:
    executor = ChunkExecutor(policy, replan=8)
    while working:
        robot.move(executor.act(robot.observe))
"""

from fla_sdk.client.chunk import ActionChunk, ChunkExecutor
from fla_sdk.client.policy_client import PolicyClient
from fla_sdk.client.session import Session

__all__ = ["ActionChunk", "ChunkExecutor", "PolicyClient", "Session"]
