"""Who may ask, and how much."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from coby.api import Limits, check_binding, is_loopback
from coby.api.access import Buckets, Guard
from coby.utils.correlation import get_correlation_id
from coby.utils.exceptions import ConfigError, StoreError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1", " LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_binding(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "127.0.0.1.example.org", ""])
def test_the_network_needs_a_key(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match=r"COBY_HOST is .*without a key it must be of this machine alone"):
        check_binding(host)
    check_binding(host, keys=["k"])


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 50),
    waits=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200),
)
def test_no_client_gets_more_than_rate_and_burst(rate: int, burst: int, waits: list[float]) -> None:
    now = 0.0
    buckets = Buckets(rate, burst, lambda: now)
    granted: list[float] = []
    for wait in waits:
        now += wait / 100
        left = buckets.take("one")
        if left:
            assert 0 < left <= 1 / rate + 1e-9
        else:
            granted.append(now)
    for i, start in enumerate(granted):
        inside = [time for time in granted[i:] if time <= start + 1]
        assert len(inside) <= burst + rate + 1
    assert len(granted) >= min(burst, len(waits))


def test_clients_are_apart_and_forgotten_when_there_are_too_many() -> None:
    buckets = Buckets(1, 1, lambda: 0.0)
    assert buckets.take("a") == 0
    assert buckets.take("b") == 0
    assert buckets.take("a") == 1
    for i in range(2000):
        buckets.take(f"c{i}")
    assert len(buckets._clients) <= 1024


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        self.seen.append((route, method, status))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def ask(guard: Guard, path: str = "/api/v1/x", **headers: str) -> tuple[int, dict[str, str], bytes]:
    async def run() -> tuple[int, dict[str, str], bytes]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        named = {"host": "localhost"} | headers
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        await guard(scope, receive, send)
        told = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])

    return asyncio.run(run())


def guarded(app: Any, **limits: Any) -> tuple[Guard, Counted]:
    counted = Counted()
    return Guard(app, monitor=counted, limits=Limits(**limits)), counted


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(get_correlation_id()).encode()})


def test_one_correlation_id_goes_through_and_strange_ones_are_cleaned() -> None:
    guard, counted = guarded(ok)
    status, headers, body = ask(guard, **{"x-correlation-id": "abc"})
    assert (status, headers["x-correlation-id"], body) == (200, "abc", b"abc")
    assert headers["cache-control"] == "no-store"
    first, second = (ask(guard)[1]["x-correlation-id"] for _ in range(2))
    assert first != second
    assert len(ask(guard, **{"x-correlation-id": "a\x01" * 500})[2]) == 128
    assert counted.seen == [("none", "GET", 200)] * 4


def test_too_many_requests_are_told_when_to_come_again() -> None:
    guard, _ = guarded(ok, requests_per_second=2, request_burst=3)
    assert [ask(guard)[0] for _ in range(4)] == [200, 200, 200, 429]
    status, headers, body = ask(guard)
    assert (status, headers["retry-after"]) == (429, "1")
    assert b'"code":"rate_limited"' in body
    assert b"2 requests a second (bursts of 3)" in body
    assert ask(guard, "/api/v1/health/live")[0] == 200, "whoever watches the process is not held up"


def test_a_slow_answer_becomes_overloaded() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    status, headers, body = ask(guarded(slow, request_seconds=0.02)[0])
    assert (status, headers["retry-after"]) == (503, "1")
    assert b'"code":"overloaded"' in body


def test_more_requests_at_once_than_allowed_are_refused() -> None:
    inner: list[tuple[int, bytes]] = []

    async def nested(scope: Scope, receive: Receive, send: Send) -> None:
        if not inner:
            inner.append((0, b""))

            async def keep(message: Message) -> None:
                inner.append((message.get("status", 0), message.get("body", b"")))

            await guard(dict(scope), receive, keep)
        await ok(scope, receive, send)

    guard, _ = guarded(nested, concurrent_requests=1)
    assert ask(guard)[0] == 200
    assert inner[1][0] == 503
    assert b"concurrent_requests" in inner[2][1]


def test_faults_tell_strangers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("password=hunter2")

    status, headers, body = ask(guarded(broken)[0])
    assert status == 500
    assert b"hunter2" not in body
    assert headers["x-correlation-id"].encode() in body
    assert "hunter2" in caplog.text

    async def store(scope: Scope, receive: Receive, send: Send) -> None:
        raise StoreError("the disk is gone")

    status, headers, body = ask(guarded(store)[0])
    assert (status, headers["retry-after"]) == (503, "5")
    assert b'"code":"store_unavailable"' in body


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1:1@evil.example"])
def test_other_hosts_are_refused(host: str) -> None:
    assert ask(guarded(ok)[0], host=host)[0] == 403
