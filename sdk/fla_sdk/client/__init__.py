"""What runs on the robot: needs only numpy, msgpack and websockets, on Python 3.10 and newer.

from fla_sdk.client import AsynchronousExecutor, PolicyClient, Runtime, SafetyFilter

with PolicyClient("ws://gpu-box:8000", embodiment="so101") as policy, AsynchronousExecutor(policy) as executor:
    Runtime(robot, executor, rate_hz=30, safety=SafetyFilter(policy.robot, rate_hz=30)).run_episode(limit_s=60)
"""

from fla_sdk.client.async_policy_client import AsyncPolicyClient
from fla_sdk.client.asynchronous import AsynchronousExecutor
from fla_sdk.client.chunk import ActionChunk, ChunkExecutor, Executor
from fla_sdk.client.ensemble import TemporalEnsemble
from fla_sdk.client.policy_client import PolicyClient
from fla_sdk.client.runtime import EpisodeReport, Recorder, Robot, Runtime, Step
from fla_sdk.client.safety import SafetyFilter, SafetyReport
from fla_sdk.client.session import Session

__all__ = [
    "ActionChunk",
    "AsyncPolicyClient",
    "AsynchronousExecutor",
    "ChunkExecutor",
    "EpisodeReport",
    "Executor",
    "PolicyClient",
    "Recorder",
    "Robot",
    "Runtime",
    "SafetyFilter",
    "SafetyReport",
    "Session",
    "Step",
    "TemporalEnsemble",
]
