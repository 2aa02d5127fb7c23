"""`Service` without a network: batches, failures, deadlines, and what observers hear."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fla_sdk import wire
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.policy.interface import Request
from fla_sdk.serving import model_thread
from fla_sdk.serving.observer import Client, Exchange, Observer
from fla_sdk.serving.service import Service
from fla_sdk.space import Space, joints

LIMIT_S = 120.0
JOINT = Space(joints("joint"))
HELLO = {"fla": {"hello": {"protocol": 1}}}


class Held:
    """Begins a batch and holds it until it may go on."""

    metadata: Mapping[str, Any] = {}
    embodiments: Mapping[str, Embodiment] = {
        "one": Embodiment(name="one", state=JOINT, action=JOINT, cameras=(), control_hz=10)
    }
    default_embodiment = "one"
    horizon = 1
    max_batch = 4

    def __init__(self, name: str = "held") -> None:
        self.name = name
        self.batches: list[list[Any]] = []
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def infer_many(self, requests: Sequence[Request]) -> list[Any]:
        asked = [one.observation["who"] for one in requests]
        self.batches.append(asked)
        self.begun.release()
        assert self.go_on.acquire(timeout=LIMIT_S)
        for who in asked:
            if who == "stops":
                raise StopIteration
            if who == "fails":
                raise ValueError("no such joint")
        return [{"actions": np.zeros((1, 1)), "by": self.name} for _ in requests]


class Wire:
    """A socket in memory."""

    def __init__(self, *, hello: bool) -> None:
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.replies: asyncio.Queue[Any] = asyncio.Queue()
        self.closed: int | None = None
        if hello:
            self.ask(HELLO)

    def ask(self, message: Any) -> None:
        self._frames.put_nowait(wire.pack(message))

    def end(self) -> None:
        self._frames.put_nowait(None)

    async def reply(self) -> Any:
        frame = await asyncio.wait_for(self.replies.get(), LIMIT_S)
        return frame if isinstance(frame, str) else wire.unpack(frame)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    async def send(self, message: str | bytes, /) -> None:
        self.replies.put_nowait(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        del reason
        self.closed = code


@asynccontextmanager
async def robots(service: Service, count: int, *, hello: bool = True) -> AsyncIterator[list[Wire]]:
    """Connected, greeted and welcomed."""
    wires = [Wire(hello=hello) for _ in range(count)]
    conversations = [service.conversation(f"robot {i}") for i in range(count)]
    talks = [asyncio.ensure_future(c.run(one)) for c, one in zip(conversations, wires, strict=True)]
    for one in wires:
        await one.reply()
        if hello:
            assert "hello" in (await one.reply())["fla"]
    try:
        yield wires
    finally:
        for one in wires:
            one.end()
        await asyncio.wait_for(asyncio.gather(*talks), LIMIT_S)
        for conversation in conversations:
            conversation.hang_up()


async def begun(policy: Held) -> None:
    """A batch has begun."""
    assert await asyncio.to_thread(policy.begun.acquire, timeout=LIMIT_S)


async def waiting(service: Service, count: int) -> None:
    """So many requests wait in the queue."""
    for _ in range(3000):
        if service.thread.waiting == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{service.thread.waiting} requests wait")


def error(reply: Any) -> dict[str, Any]:
    return reply["fla"]["error"]


def test_requests_that_come_while_the_model_is_busy_are_answered_together() -> None:
    async def scene() -> None:
        async with robots(service, 7) as wires:
            for number, one in enumerate(wires):
                one.ask({"who": number})
                await (waiting(service, number) if number else begun(policy))
            policy.go_on.release(3)
            replies = [await one.reply() for one in wires]
        assert [reply["server_timing"]["batch"] for reply in replies] == [1, 4, 4, 4, 4, 2, 2]
        assert all(reply["server_timing"]["queue_ms"] > 0 for reply in replies)

    policy = Held()
    service = Service(policy)
    with service.running():
        asyncio.run(scene())
    assert policy.batches == [[0], [1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("who", "reason"),
    [("fails", "ValueError: no such joint"), ("stops", "RuntimeError: coroutine raised StopIteration")],
)
def test_who_makes_a_batch_fail_fails_alone(who: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with robots(service, 4) as wires:
            for number, one in enumerate(wires):
                one.ask({"who": who if number == 2 else number})
                await (waiting(service, number) if number else begun(policy))
            policy.go_on.release(5)  # the first, the batch, and each of the batch alone
            replies = [await one.reply() for one in wires]
        assert [reply.get("by") for reply in replies] == ["held", "held", None, "held"]
        assert (error(replies[2])["code"], error(replies[2])["message"]) == ("failed", reason)
        assert [one.closed for one in wires] == [None, None, 1011, None]

    policy = Held()
    service = Service(policy)
    with service.running():
        asyncio.run(scene())
    assert policy.batches == [[0], [1, who, 3], [1], [who], [3]]
    assert "the policy failed" in caplog.text


def test_too_much_work_is_refused_with_a_time_to_come_back() -> None:
    async def scene() -> None:
        async with robots(service, 3) as (first, second, third):
            first.ask({"who": 1})
            await begun(policy)
            second.ask({"who": 2, "fla": {"request": 1}})
            await waiting(service, 1)
            third.ask({"who": 3, "fla": {"request": 9}})
            refused = error(await third.reply())
            assert (refused["code"], refused["request"]) == ("overloaded", 9)
            assert refused["message"].startswith("1 requests are waiting, as many as may: ask again in ")
            assert refused["retry_after_ms"] >= 0
            policy.go_on.release(3)
            assert [(await one.reply())["by"] for one in (first, second)] == ["held", "held"]
            third.ask({"who": 3})
            assert (await third.reply())["by"] == "held"

    policy = Held()
    service = Service(policy, queue_capacity=1)
    with service.running():
        asyncio.run(scene())


def test_a_deadline_that_passed_in_the_queue_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    later_s = 0.0
    monkeypatch.setattr(model_thread, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later_s))

    async def scene() -> None:
        nonlocal later_s
        async with robots(service, 2) as (first, second):
            first.ask({"who": 1})
            await begun(policy)
            second.ask({"who": 2, "fla": {"request": 5, "deadline_ms": 1e3 * LIMIT_S}})
            await waiting(service, 1)
            later_s = LIMIT_S
            policy.go_on.release()
            refused = error(await second.reply())
            assert (refused["code"], refused["request"]) == ("overloaded", 5)
            assert refused["message"].startswith("the answer would come too late: deadline_ms is ")
            await first.reply()

    policy = Held()
    service = Service(policy)
    with service.running():
        asyncio.run(scene())
    assert policy.batches == [[1]]


def test_a_server_that_goes_down_says_so_and_answers_those_who_wait() -> None:
    async def scene() -> None:
        async with robots(service, 2) as (first, second):
            first.ask({"who": 1})
            await begun(policy)
            service.draining = True
            second.ask({"who": 2})
            assert error(await second.reply())["code"] == "draining"
            policy.go_on.release()
            assert (await first.reply())["by"] == "held"

    policy = Held()
    service = Service(policy)
    with service.running():
        asyncio.run(scene())


def test_another_policy_takes_over_between_two_requests() -> None:
    async def scene() -> None:
        async with robots(service, 2) as (first, second):
            first.ask({"who": 1})
            await begun(old)
            second.ask({"who": 2})
            await waiting(service, 1)
            service.replace(new)
            old.go_on.release(2)
            assert [(await one.reply())["by"] for one in (first, second)] == ["old", "old"]
            new.go_on.release(1)
            second.ask({"who": 3})
            assert (await second.reply())["by"] == "new"

    old, new = Held("old"), Held("new")
    service = Service(old)
    with service.running():
        asyncio.run(scene())
    assert (old.batches, new.batches) == ([[1], [2]], [[3]])


def test_a_robot_that_hangs_up_in_the_queue_is_forgotten() -> None:
    async def scene() -> None:
        async with robots(service, 1) as (first,):
            first.ask({"who": 1})
            await begun(policy)
            gone, conversation = Wire(hello=False), service.conversation("gone")
            talk = asyncio.ensure_future(conversation.run(gone))
            gone.ask({"who": 2})
            await waiting(service, 1)
            conversation.hang_up()
            conversation.hang_up()
            await asyncio.wait_for(talk, LIMIT_S)
            policy.go_on.release()
            await first.reply()
            assert len(service.clients) == 1

    policy = Held()
    service = Service(policy)
    with service.running():
        asyncio.run(scene())
    assert policy.batches == [[1]]
    assert not service.clients


class Diary(Observer):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def connected(self, client: Client) -> None:
        self.told.append(("connected", client.peer))

    def greeted(self, client: Client) -> None:
        assert client.session is not None
        self.told.append(("greeted", client.session.embodiment))

    def asked(self, exchange: Exchange) -> None:
        assert exchange.timing is None
        self.told.append(("asked", exchange.embodiment, exchange.request.observation["who"]))

    def answered(self, exchange: Exchange) -> None:
        assert exchange.answer is not None and exchange.timing is not None
        self.told.append(("answered", exchange.answer["actions"].shape, exchange.timing.batch))
        raise RuntimeError("the observer broke")

    def refused(self, client: Client, code: str, message: str) -> None:
        self.told.append(("refused", code, message[:20]))

    def disconnected(self, client: Client) -> None:
        assert client.session is not None
        self.told.append(("disconnected", client.session.requests, client.session.refusals))


def test_observers_hear_everything_and_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with robots(service, 1) as (one,):
            one.ask({"who": "me"})
            policy.go_on.release()
            assert "actions" in await one.reply()
            one.ask({"who": "me", "fla": 3})
            assert error(await one.reply())["code"] == "observation"

    policy, diary = Held(), Diary()
    service = Service(policy, observers=[diary])
    with service.running():
        asyncio.run(scene())
    assert diary.told == [
        ("connected", "robot 0"),
        ("greeted", "one"),
        ("asked", "one", "me"),
        ("answered", (1, 1), 1),
        ("refused", "observation", "the entry 'fla' of a"),
        ("disconnected", 1, 1),
    ]
    assert "RuntimeError: the observer broke" in caplog.text


def test_policies_that_make_no_sense_are_refused() -> None:
    policy = Held()
    policy.max_batch = 0
    with pytest.raises(ConfigError, match="max_batch of the policy is 0"):
        Service(policy)
    policy = Held()
    policy.default_embodiment = "two"
    with pytest.raises(UnknownNameError, match="unknown embodiment 'two'"):
        Service(policy)
    with pytest.raises(ConfigError, match="batch_wait_ms is -1"):
        Service(Held(), batch_wait_ms=-1)
