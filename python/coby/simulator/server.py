"""The exchange behind one loopback port: `http://HOST:PORT/<venue>/...` and `ws://HOST:PORT/<venue>/...`.

The rest of a path is the venue's own. Beside the venues there is `/_simulator/`: `GET status`, `GET truth` (`venue`,
`symbol`, `depth`: the true books now), `POST faults` (a fault or a list of them, as in a script; `at` counts from now).
"""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web

from coby.simulator.exchange import SECOND, Connection, Exchange, Request, Response, Venue, compact
from coby.simulator.faults import Script, parse
from coby.simulator.truth import books
from coby.utils.exceptions import ConfigError

_QUEUE = 20_000
_SLICE_NS = 20_000_000
_CLOSING_SECONDS = 1.0


class Server:
    """Serves an exchange, and lets its time pass at `speed` times real time, from the moment it listens."""

    def __init__(self, exchange: Exchange, script: Script, speed: float = 1.0) -> None:
        self._exchange = exchange
        self._script = script
        self._speed = speed
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=_CLOSING_SECONDS)
        self._pump: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listens; `self.port` is the port then.

        Raises:
            OSError: It cannot.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = int(self._runner.addresses[0][1])
        self._pump = asyncio.create_task(self._let_time_pass())

    async def serve(self) -> None:
        """Runs until cancelled, or until it fails."""
        if self._pump is not None:
            await self._pump

    async def stop(self) -> None:
        """Closes all connections."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for connection in list(self._exchange.connections.values()):
            connection.close(1001, "going away")
        await self._runner.cleanup()

    async def _let_time_pass(self) -> None:
        loop, clock = asyncio.get_running_loop(), self._exchange.clock
        began, start = loop.time(), clock.now_ns
        while True:
            due = start + round((loop.time() - began) * self._speed * SECOND)
            while clock.now_ns < due:
                clock.advance(min(due, clock.now_ns + _SLICE_NS))
                await asyncio.sleep(0)
            wait = ((clock.next_ns or due) - due) / SECOND / self._speed
            await asyncio.sleep(min(max(wait, 0.001), 0.05))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name, _, rest = request.path.removeprefix("/").partition("/")
        path = f"/{rest}"
        if name == "_simulator":
            return await self._control(request, rest)
        venue = self._exchange.venues.get(name)
        if venue is None:
            known = ", ".join(self._exchange.venues)
            return web.Response(
                status=404, text=f"no venue {name!r} here: the first part of a path is one of {known}\n"
            )
        query = request.rel_url.raw_query_string
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, venue, path, query)
        asked = Request(request.method, path, dict(parse_qsl(query)), await request.text())
        answer = self._exchange.ask(venue, asked)
        if answer is None:
            return _reset(request)
        await self._sleep(answer.delay_ns)
        return _http(answer)

    async def _socket(self, request: web.BaseRequest, venue: Venue, path: str, query: str) -> web.StreamResponse:
        door = self._exchange.faults.door(venue, path, socket=True)
        await self._sleep(door.delay_ns)
        if door.refused:
            return _reset(request)
        if door.response:
            return _http(door.response)
        status = venue.handshake(path, dict(parse_qsl(query)))
        if status != 101:
            return web.Response(status=status)
        socket = web.WebSocketResponse(autoping=False, compress=False, timeout=_CLOSING_SECONDS)
        await socket.prepare(request)
        transport = _Transport(socket, request)
        connection = self._exchange.dial(venue, f"{path}?{query}", transport)
        writer = asyncio.create_task(transport.write())
        try:
            await self._listen(connection, socket)
        finally:
            self._exchange.hang_up(connection)
            transport.end()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def _listen(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if connection.frozen:
                continue
            if message.type is WSMsgType.TEXT:
                self._exchange.hear(connection, message.data)
            elif message.type is WSMsgType.PING:
                connection.heard_ns = self._exchange.clock.now_ns
                await socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._exchange.hear_pong(connection)
            elif message.type is WSMsgType.ERROR:
                return

    async def _control(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        exchange = self._exchange
        query = dict(parse_qsl(request.rel_url.raw_query_string))
        match request.method, path:
            case "GET", "status":
                return _json(
                    {
                        "t": exchange.clock.now_ns,
                        "seed": exchange.seed,
                        "speed": self._speed,
                        "venues": {name: list(venue.markets) for name, venue in exchange.venues.items()},
                        "connections": [
                            {"number": number, "venue": c.venue.name, "path": c.path, "topics": len(c.topics)}
                            for number, c in exchange.connections.items()
                        ],
                    }
                )
            case "GET", "truth":
                depth = int(query["depth"]) if query.get("depth", "").isdecimal() else None
                return _json(list(books(exchange, depth, query.get("venue"), query.get("symbol"))))
            case "POST", "faults":
                try:
                    given = json.loads(await request.text())
                    self._add_faults(given if isinstance(given, list) else [given])
                except (ValueError, ConfigError) as error:
                    return _json({"error": str(error)}, 400)
                return _json({"ok": True})
            case _:
                return _json({"error": "GET status, GET truth, POST faults"}, 404)

    def _add_faults(self, given: list[object]) -> None:
        since_start = (self._exchange.clock.now_ns - self._exchange.clock.start_ns) / SECOND
        faults = [parse(entry, self._exchange) for entry in given]
        for fault in faults:
            self._script.add(fault.later(since_start))

    async def _sleep(self, delay_ns: int) -> None:
        if delay_ns:
            await asyncio.sleep(delay_ns / SECOND / self._speed)


@dataclass(frozen=True)
class _Ping:
    payload: bytes


@dataclass(frozen=True)
class _Close:
    code: int
    reason: str


class _Transport:
    """Frames on their way to a socket; who does not read them in time is cut off, as at a real venue."""

    def __init__(self, socket: web.WebSocketResponse, request: web.BaseRequest) -> None:
        self._socket = socket
        self._request = request
        self._queue: asyncio.Queue[str | bytes | _Ping | _Close | None] = asyncio.Queue(_QUEUE)

    def deliver(self, payload: str | bytes) -> None:
        self._put(payload)

    def ping(self, payload: bytes) -> None:
        self._put(_Ping(payload))

    def close(self, code: int, reason: str) -> None:
        self._put(_Close(code, reason))

    def end(self) -> None:
        self._put(None)

    def _put(self, item: str | bytes | _Ping | _Close | None) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            _abort(self._request)

    async def write(self) -> None:
        try:
            while (item := await self._queue.get()) is not None:
                match item:
                    case str():
                        await self._socket.send_str(item)
                    case bytes():
                        await self._socket.send_bytes(item)
                    case _Ping():
                        await self._socket.ping(item.payload)
                    case _Close(1006):
                        _abort(self._request)
                        return
                    case _Close():
                        await self._socket.close(code=item.code, message=item.reason.encode())
                        return
        except ConnectionError:
            return


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _reset(request: web.BaseRequest) -> web.Response:
    _abort(request)
    return web.Response(status=503)


def _http(answer: Response) -> web.Response:
    headers = {"Content-Type": "application/json", **answer.headers}
    return web.Response(status=answer.status, body=answer.body.encode(), headers=headers)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, text=compact(value), content_type="application/json")
