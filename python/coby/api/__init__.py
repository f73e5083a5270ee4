"""The HTTP API: what the process knows, for programs and pages; it only reads."""

from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from coby.api import bars, documentation, heatmap, market, process, rows
from coby.api.access import Guard, check_binding, is_loopback
from coby.api.answers import problem
from coby.api.context import Api
from coby.api.errors import PROBLEM, MethodNotAllowedError, NotFoundError, Problem
from coby.api.parameters import refused
from coby.api.state import Engine, Feeder, Limits, Monitor, State, Store
from coby.api.view import LiveView
from coby.utils.exceptions import CobyError
from coby.utils.redaction import printable
from coby.utils.validation import nearest

__all__ = [
    "Engine",
    "Feeder",
    "Limits",
    "LiveView",
    "Monitor",
    "State",
    "Store",
    "check_binding",
    "create_app",
    "is_loopback",
    "server_config",
]

BASE = "/api/v1"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (400, "A parameter cannot be used"),
        (403, "Not allowed"),
        (404, "There is none"),
        (409, "Not live"),
        (410, "The cursor's rows are gone"),
        (422, "Does not fit the numbers of the answer"),
        (429, "Too many requests; see Retry-After"),
        (500, "A fault of the server"),
        (503, "Overloaded, or the store cannot be read; see Retry-After"),
    )
}


def create_app(state: State) -> FastAPI:
    """The application; uvicorn runs it with `server_config`."""
    app = FastAPI(
        title="COBY",
        version=state.version or "0",
        description="Order books, trades, candles and heatmaps of many exchanges. Times are nanoseconds since 1970 and,"
        " like decimals and positions, texts.",
        docs_url=None,
        redoc_url=None,
        openapi_url=documentation.OPENAPI_PATH,
        responses=_PROBLEMS,
        redirect_slashes=False,
    )
    api = Api(state)
    resources = APIRouter(prefix=BASE)
    for module in (process, market, heatmap, rows, bars):
        resources.include_router(module.router(api))
    app.include_router(resources)
    app.include_router(process.metrics(api))
    app.include_router(documentation.router(app))
    _answer_errors(app)
    app.add_middleware(_guard, state=state)
    describe = app.openapi
    app.openapi = lambda: _with_problems(describe())  # type: ignore[method-assign]  # the framework's own way
    return app


def server_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves the application.

    Raises:
        ConfigError: The host can be reached from outside, and no key protects it.
    """
    check_binding(host)
    return uvicorn.Config(
        app,
        host,
        port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Headers that a proxy would set could be set by anyone.
        proxy_headers=False,
        limit_concurrency=512,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )


def _guard(app: ASGIApp, state: State) -> Guard:
    return Guard(app, monitor=state.monitor, hosts=(state.settings.host, *state.hosts), limits=state.limits)


def _with_problems(description: dict[str, Any]) -> dict[str, Any]:
    """Refusals have a media type of their own, which the framework does not let one say."""
    for operations in description["paths"].values():
        for operation in operations.values():
            for status, told in operation["responses"].items():
                content = told.get("content", {})
                refused = content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/Problem")
                if int(status) >= 400 and refused:
                    content[PROBLEM] = content.pop("application/json")
    return description


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(CobyError)
    async def ours(_: Request, error: CobyError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> Response:
        return problem(refused(error))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        path = printable(request.url.path)
        if error.status_code == 405:
            return problem(
                MethodNotAllowedError(
                    f"{request.method} is not possible here; GET is", context={"path": path, "allowed": ["GET"]}
                )
            )
        known = [str(getattr(route, "path", "")) for route in app.routes]
        return problem(
            NotFoundError(
                f"there is no resource {path}; /docs lists those that there are",
                context={"path": path, "nearest": nearest(path, known)},
            )
        )
