"""A judge behind HTTP on this machine, which does what it is told: answers, stalls, breaks off, lies."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reply:
    """What the server does with one request.

    Args:
        body: JSON values, or bytes as they are.
        status: Of HTTP.
        headers: Beside its own.
        after: Seconds before it answers.
        cut: Bytes of the body after which it hangs up; None sends all.
    """

    def __init__(self, body=None, status=200, headers=(), after=0.0, cut=None):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.after, self.cut = status, dict(headers), after, cut


def completion(text, **message):
    """What an OpenAI-compatible server answers."""
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return {"model": "judge-2026-01-01", "choices": [choice]}


def candidate(text):
    """What Gemini answers."""
    content = {"parts": [{"text": "hm", "thought": True}, {"text": text}]}
    return {"modelVersion": "gemini-007", "candidates": [{"content": content, "finishReason": "STOP"}]}


class JudgeServer(ThreadingHTTPServer):
    """Remembers all requests, and how many were under way at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[int, dict], Reply]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests, self.paths, self.headers = [], [], []
        self.under_way = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self):
        """The words of each question, in order."""
        return [words(request) for request in self.requests]


def words(request):
    """The words that a request asks."""
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.requests)
            server.requests.append(request)
            server.paths.append(self.path)
            server.headers.append(dict(self.headers))
            server.under_way += 1
            server.most_at_once = max(server.most_at_once, server.under_way)
        try:
            reply = server.answer(number, request)
            time.sleep(reply.after)
        finally:
            # Before it is sent: whoever has the answer may ask again at once.
            with server.lock:
                server.under_way -= 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self._send(reply)

    def _send(self, reply):
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut])
        if reply.cut is not None:
            self.close_connection = True

    def log_message(self, *words):
        pass


@contextmanager
def serving(answer):
    """A server that answers as the function of the request's number and content says."""
    server = JudgeServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
