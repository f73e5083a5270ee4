"""Real clients over loopback sockets: what a venue's client would see, from the handshake to the last frame."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from coby.simulator.exchange import Exchange, Request
from coby.simulator.faults import Fault, Script
from coby.simulator.server import Server
from coby.simulator.truth import Truth
from coby.simulator.venues import ALL_FEEDS, VENUES
from support.readers import READERS
from support.recorded import GRIDS
from support.simulated import START_NS
from support.unpacked import unpacked


class Site:
    """A running server, and a session of a client."""

    def __init__(self, exchange: Exchange, server: Server, session: aiohttp.ClientSession, out: io.StringIO) -> None:
        self.exchange = exchange
        self.session = session
        self.http = f"http://127.0.0.1:{server.port}"
        self.ws = f"ws://127.0.0.1:{server.port}"
        self._out = out

    @property
    def truth(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


@asynccontextmanager
async def serving(
    *venues: str, faults: tuple[Fault, ...] = (), speed: float = 1.0, every: float = 0.5
) -> AsyncIterator[Site]:
    out = io.StringIO()
    exchange = Exchange([ALL_FEEDS[name] for name in venues], symbols=["BTC"], start_ns=START_NS)
    truth = Truth(exchange, out, every)
    script = Script(exchange, faults, truth.log)
    exchange.faults = script
    server = Server(exchange, script, speed)
    await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Site(exchange, server, session, out)
    finally:
        await server.stop()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def local(site: Site, venue: str, url: str) -> str:
    """Where the driver finds a venue's URL."""
    scheme, _, rest = url.partition("://")
    base = site.ws if scheme == "wss" else site.http
    return f"{base}/{venue}/{rest.partition('/')[2]}"


@pytest.mark.parametrize("venue", ALL_FEEDS)
def test_a_client_gets_books_equal_to_the_truth(venue: str) -> None:
    async def test() -> None:
        slow = venue in GRIDS
        speed = 5.0 if slow else 3.0
        async with serving(venue, speed=speed, every=GRIDS.get(venue, 0.5)) as site:
            exchange = site.exchange
            (simulated,) = exchange.venues.values()
            plan = simulated.plan(list(simulated.markets.values()))
            for listing in plan.listings:
                assert await fetch(site, plan.rest, listing)
            seen: list[tuple[int, str, str]] = []
            dial = plan.dials[0]
            url = dial.url
            if dial.token:
                answer = json.loads(await fetch(site, plan.rest, dial.token))
                server = answer["data"]["instanceServers"][0]["endpoint"]
                url = f"{server}?token={answer['data']['token']}&connectId=1"
            socket = site.session.ws_connect(local(site, simulated.name, url), max_msg_size=0)
            async with socket as connection:
                if dial.greeted:
                    await connection.receive()
                for message in dial.messages:
                    await connection.send_str(message)
                    await asyncio.sleep(dial.pause_ms / 1_000 / speed)
                begun = exchange.clock.now_ns
                asked = False
                while exchange.clock.now_ns < begun + (12 if slow else 6) * 1_000_000_000:
                    data = (await connection.receive()).data
                    text = unpacked(data)
                    assert isinstance(text, str)
                    if (pong := simulated.pong(text)) is not None:
                        await connection.send_str(pong)
                    seen.append((exchange.clock.now_ns, "", text))
                    if not asked and exchange.clock.now_ns > begun + 1_000_000_000:
                        asked = True
                        for request in dial.requests:
                            body = await fetch(site, plan.rest, request)
                            seen.append((exchange.clock.now_ns, request_url(request), body))
                        for message in dial.later:
                            await connection.send_str(message)
                            await asyncio.sleep(0.05)
            reader = READERS[venue](site.truth)
            for now_ns, url, body in seen:
                reader.now_ns = now_ns
                if url:
                    reader.http(url, body)
                else:
                    reader.text(body)
            assert reader.breaks == []
            for symbol in simulated.markets:
                assert reader.compared[symbol] >= (1 if slow else 4)

    run(test)


def request_url(request: Request) -> str:
    query = "&".join(f"{name}={value}" for name, value in request.query.items())
    return f"{request.path}?{query}"


async def fetch(site: Site, rest: str, request: Request) -> str:
    venue = next(iter(site.exchange.venues))
    url = local(site, venue, f"{rest}{request_url(request)}")
    async with site.session.request(request.method, url, data=request.body or None) as response:
        assert response.status == 200, await response.text()
        return await response.text()


STREAM = "/binance_futures/public/stream?streams=btcusdt@depth@100ms"
DEPTH = "/binance_futures/fapi/v1/depth?symbol=BTCUSDT&limit=5"


def test_one_port_serves_all_venues_and_says_what_is_there() -> None:
    async def test() -> None:
        async with serving(*VENUES) as site:
            async with site.session.get(site.http + "/nowhere/x") as response:
                assert response.status == 404
                assert "binance_futures" in await response.text()
            async with site.session.get(site.http + "/_simulator/status") as response:
                assert list((await response.json())["venues"]) == list(VENUES)
            async with site.session.get(site.http + "/_simulator/truth?venue=kraken&depth=3") as response:
                books = await response.json()
                assert {book["symbol"] for book in books} == {"BTC/USD", "BTC/USDT"}
                assert all(len(book["bids"]) == 3 for book in books)
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await site.session.ws_connect(site.ws + "/binance_futures/nothing")
            assert caught.value.status == 404
            async with site.session.ws_connect(site.ws + STREAM) as socket:
                await socket.ping(b"hello")
                assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT

    run(test)


def test_faults_on_sockets() -> None:
    async def test() -> None:
        faults = (
            Fault("close", at=0.3, code=1013),
            Fault("close", at=0.8, code=1006),
            Fault("refuse", at=1.5, seconds=1.0),
            Fault("http", at=3.0, seconds=1.0, status=429, retry_after=3),
            Fault("slow_handshake", at=3.0, seconds=1.0, delay=0.6),
            Fault("freeze", at=4.5, seconds=0),
            Fault("late_snapshot", at=4.5, delay=0.7),
        )
        async with serving("binance_futures", faults=faults) as site:
            loop = asyncio.get_running_loop()
            start = loop.time()

            async def until(seconds: float) -> None:
                await asyncio.sleep(max(0.0, start + seconds - loop.time()))

            async def last(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
                while True:
                    message = await socket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return message

            for code in (1013, 1006):
                async with site.session.ws_connect(site.ws + STREAM) as socket:
                    await last(socket)
                    assert socket.close_code == code
            await until(1.6)
            with pytest.raises(aiohttp.ClientError):
                await site.session.ws_connect(site.ws + STREAM)
            with pytest.raises(aiohttp.ClientError):
                await site.session.get(site.http + DEPTH)
            await until(3.1)
            async with site.session.get(site.http + DEPTH) as response:
                assert (response.status, response.headers["Retry-After"]) == (429, "3")
            before = loop.time()
            async with site.session.ws_connect(site.ws + STREAM) as socket:
                assert loop.time() - before > 0.5
                await until(4.2)
                while True:
                    try:
                        await asyncio.wait_for(socket.receive(), 0.8)
                    except TimeoutError:
                        break
                assert loop.time() - start > 4.5
                assert not socket.closed
            before = loop.time()
            async with site.session.get(site.http + DEPTH) as response:
                assert response.status == 200
            assert loop.time() - before > 0.6
            happened = [entry["fault"] for entry in site.truth if entry["kind"] == "fault"]
            assert set(happened) == {fault.kind for fault in faults}

    run(test)


def test_faults_can_be_added_while_it_runs() -> None:
    async def test() -> None:
        async with serving("binance_futures") as site:
            url = site.http + "/_simulator/faults"
            async with site.session.post(url, json={"kind": "dorp"}) as response:
                assert response.status == 400
                assert "dorp" in (await response.json())["error"]
            async with site.session.ws_connect(site.ws + STREAM) as socket:
                await socket.receive()
                async with site.session.post(url, json=[{"kind": "close", "code": 1012}]) as response:
                    assert response.status == 200
                while not socket.closed:
                    await socket.receive()
                assert socket.close_code == 1012

    run(test)


def test_who_does_not_read_is_cut_off_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coby.simulator.server._QUEUE", 50)

    async def test() -> None:
        channels = {"product_ids": ["BTC-USD"], "channels": ["level2_batch"]}
        async with (
            serving("coinbase") as site,
            site.session.ws_connect(site.ws + "/coinbase/") as lazy,
            site.session.ws_connect(site.ws + "/coinbase/", max_msg_size=0) as other,
        ):
            await other.send_json({"type": "subscribe", **channels})
            while len(site.exchange.connections) > 1:
                for kind in ("subscribe", "unsubscribe"):
                    await lazy.send_json({"type": kind, **channels})
                assert (await other.receive()).type is aiohttp.WSMsgType.TEXT
            assert next(iter(site.exchange.connections.values())).number == 2
            assert (await other.receive()).type is aiohttp.WSMsgType.TEXT

    run(test)


def test_the_command_says_where_it_listens_and_stops_when_told(tmp_path: Any) -> None:
    import signal
    import subprocess
    import sys

    truth = tmp_path / "truth.jsonl"
    arguments = ["--venues", "kraken", "--port", "0", "--truth", str(truth), "--truth-every", "0.1"]
    command = [sys.executable, "-m", "coby.simulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:")
        port = line.strip().rpartition(":")[2]
        second = [*command[:-6], "--port", port]
        assert subprocess.run(second, capture_output=True, check=False).returncode == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    assert json.loads(truth.read_text().splitlines()[0])["kind"] == "start"
