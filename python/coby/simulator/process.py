"""Simulated exchanges in a process of their own."""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence

from coby.utils.exceptions import ConnectorError
from coby.utils.logging import get_logger

_START_SECONDS = 30.0

_log = get_logger(__name__)


@contextlib.asynccontextmanager
async def simulated(venues: Sequence[str]) -> AsyncIterator[str]:
    """Starts the simulator, which ends with this process at the latest; yields the `host:port` that it listens at.

    Raises:
        ConnectorError: It does not start.
    """
    command = (sys.executable, "-m", "coby.simulator.child", "--venues", *venues, "--port", "0")
    pipe = asyncio.subprocess.PIPE
    # In a session of its own: a Ctrl-C is for us, and the venues stay until everything is flushed.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ConnectorError("the simulator has no pipes")
    said: deque[str] = deque(maxlen=1)
    listening = asyncio.create_task(_note_lines(process.stderr, said))
    watching: asyncio.Task[None] | None = None
    try:
        line = await _first_line(process.stdout)
        if not line.startswith("listening on "):
            code = await process.wait()
            await listening
            why = said[0].removeprefix("coby: ") if said else f"it ended with code {code}"
            raise ConnectorError(f"the simulator does not start: {why}")
        _log.info("simulated venues: %s", line)
        watching = asyncio.create_task(_note_end(process))
        yield line.removeprefix("listening on ")
    finally:
        tasks = [task for task in (listening, watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _first_line(stream: asyncio.StreamReader) -> str:
    try:
        async with asyncio.timeout(_START_SECONDS):
            return (await stream.readline()).decode().strip()
    except TimeoutError as error:
        raise ConnectorError(f"the simulator does not start within {_START_SECONDS:.0f} s") from error


async def _note_end(process: asyncio.subprocess.Process) -> None:
    code = await process.wait()
    _log.error("the simulator has ended with code %d: no venue can be reached any more", code)


async def _note_lines(stream: asyncio.StreamReader, last: deque[str]) -> None:
    while line := await stream.readline():
        if text := line.decode(errors="replace").strip():
            last.append(text)
            _log.warning("simulator: %s", text)
