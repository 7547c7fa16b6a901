"""The routes of the server, and what a refusal looks like."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from empathy_lightning.errors import InputError
from empathy_lightning.serving.completions import completions, models
from empathy_lightning.serving.limits import Refused
from empathy_lightning.serving.live import live
from empathy_lightning.serving.respond import respond
from empathy_lightning.serving.service import Service

PAGE = Path(__file__).with_name("page")


def application(service: Service, page: bool = True) -> Starlette:
    """The server as an ASGI application.

    Args:
        service: The bot, and how it is asked.
        page: Whether the page is served too.
    """
    routes = [
        Route("/v1/respond", respond, methods=["POST"]),
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models),
        Route("/health", health),
        Route("/metrics", metrics),
        WebSocketRoute("/v1/live", live),
    ]
    if page:
        routes.append(Mount("/", StaticFiles(directory=PAGE, html=True)))
    app = Starlette(routes=routes, exception_handlers={Refused: _refused, InputError: _unusable})
    app.state.service = service
    return app


async def health(request: Request) -> Response:
    """Whether questions are taken: 200, or 503 as soon as the server is about to end."""
    service: Service = request.app.state.service
    engine = service.engine
    status, code = ("ending", 503) if engine.closed else ("ok", 200)
    return JSONResponse({"status": status, "waiting": engine.waiting, "answering": engine.answering}, code)


async def metrics(request: Request) -> Response:
    """What was counted."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    service: Service = request.app.state.service
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status in (429, 503):
        service.metrics.count("refused")
    if error.status in (408, 413):
        # What is still on its way is not read.
        headers["connection"] = "close"
    return JSONResponse(_told(str(error), error.status), error.status, headers)


async def _unusable(request: Request, error: Exception) -> Response:
    return JSONResponse(_told(" ".join(str(error).split()), 400), 400)


def _told(message: str, status: int) -> dict[str, object]:
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
