"""``serve``: a bot as a server with a page."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from empathy_lightning.commands.options import Flat, Trust
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.serving.limits import Limits

_NEEDED = ("multipart", "prometheus_client", "starlette", "uvicorn", "websockets")


def serve(
    checkpoint: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    token_file: Path | None = None,
    open_to_all: bool = False,
    language: str | None = None,
    decoding: Annotated[Decoding, Flat] = Decoding(),  # noqa: B008 - frozen
    limits: Annotated[Limits, Flat] = Limits(),  # noqa: B008 - frozen
    page: Annotated[bool, Parameter(negative=())] = True,
    access_log: bool = False,
    device: str | None = None,
    trust: Trust = (),
) -> None:
    """Serve a bot over HTTP and WebSocket, with a page to talk to it.

    Nothing that is said is stored. SIGTERM and Ctrl-C let the replies end that are being made.

    Args:
        checkpoint: Folder of the bot.
        host: Address to listen at; beyond this machine it takes a token.
        port: To listen at; 0 for any that is free.
        name: Of the bot on the page and for clients (default: that of the folder).
        token_file: File whose first line clients have to know (or EMPATHY_TOKEN in the environment).
        open_to_all: Listen beyond this machine without a token.
        language: Of the replies, as in chat: auto (the user's own) or a name.
        decoding: How replies are chosen where a client does not say.
        limits: What is taken on.
        page: Serve the page too.
        access_log: Log each request's line and status.
        device: For example cuda:1 (default: a GPU if there is one).
        trust: Packages besides this library whose classes the folder may name.

    Raises:
        InputError: If the checkpoint cannot be used, or the address cannot be had.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise InputError(f"serve needs {', '.join(missing)}: pip install 'empathy_lightning[serve]'")
    token = _token(token_file)
    if token is None and not open_to_all and host not in ("127.0.0.1", "localhost", "::1"):
        raise InputError(f"whoever reaches {host} could use the bot: give --token_file, or --open_to_all")
    from empathy_lightning.chatbot import EmpatheticChatbot
    from empathy_lightning.serving.engine import Engine
    from empathy_lightning.serving.metrics import Metrics
    from empathy_lightning.serving.server import Server, listening
    from empathy_lightning.serving.service import Service

    # Before the bot is loaded, which takes longer.
    taken = listening(host, port, limits.stall_seconds)
    bot = EmpatheticChatbot.from_pretrained(checkpoint, device, trust)
    engine = Engine(bot, limits)
    service = Service(name or checkpoint.resolve().name, engine, Metrics(engine), decoding, language)
    server = Server(service, token, any_host=token is not None or open_to_all, page=page, access_log=access_log)
    address, number = taken.getsockname()[:2]
    if ":" in address:
        # IPv6, whose own colons stand in brackets.
        address = f"[{address}]"
    print(f"{checkpoint} answers at http://{address}:{number}", flush=True)
    server.run(sockets=[taken])


def _token(file: Path | None) -> str | None:
    """The token, None where there is none."""
    token = os.environ.get("EMPATHY_TOKEN") if file is None else _first_line(file)
    if token is not None and not token.strip():
        raise InputError(
            f"{file or 'EMPATHY_TOKEN'} holds no token: write one there, such as `openssl rand -hex 16` gives"
        )
    return None if token is None else token.strip()


def _first_line(file: Path) -> str:
    try:
        return next(iter(file.read_text(encoding="utf-8").splitlines()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token_file {file} cannot be read: {error}") from None
