"""A local server that speaks S3 (moto's), which counts what it sends and fails where it is told to."""

import json
import threading
from collections import Counter
from contextlib import contextmanager

import pytest

from empathy_lightning import storage

pytest.importorskip("moto", reason="moto is not installed (extra dev)")
pytest.importorskip("s3fs", reason="s3fs is not installed (extra storage)")

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Speaks HTTP/1.1 and prints nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *words):
        pass


class Server:
    """Bytes of file contents that were sent and asked for, by key; faults by key and how often.

    Attributes:
        url: Where it listens.
        sent: Bytes of bodies that answered GET, by path.
        requests: Number of requests, by method and path.
        breaks: How many of the next answers to GET of a path end in their middle.
        refused: Paths that are answered with 403.
    """

    def __init__(self):
        self.backend = DomainDispatcherApplication(create_backend_app)
        self.sent, self.requests, self.breaks, self.refused = Counter(), Counter(), Counter(), set()
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def answer(self, environ, start_response):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        self.requests[method, path] += 1
        if path in self.refused:
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        body = b"".join(self.backend(environ, start_response))
        if method != "GET":
            return [body]
        self.sent[path] += len(body)
        if self.breaks[path]:
            self.breaks[path] -= 1
            return broken(body)
        return [body]

    @contextmanager
    def counted(self):
        """Count anew."""
        self.sent.clear()
        self.requests.clear()
        yield self

    def total(self):
        return sum(self.sent.values())


def broken(body):
    """Half of a body, then the end of the connection."""
    yield body[: len(body) // 2]
    raise ConnectionAbortedError


@contextmanager
def served():
    """A server with one bucket, ``corpus``, for which this process and its children have credentials."""
    import boto3

    server = Server()
    threading.Thread(target=server.server.serve_forever, daemon=True).start()
    environment = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="corpus")
        # Read without credentials too, as from a web server.
        anyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::corpus/*"}
        client.put_bucket_policy(Bucket="corpus", Policy=json.dumps({"Version": "2012-10-17", "Statement": [anyone]}))
        yield server
    server.server.shutdown()
    server.server.server_close()


def forget_credentials():
    """Let the next connection read them anew."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    storage._system.cache_clear()


def emptied(server):
    """The server as it was at first."""
    import boto3

    server.refused.clear()
    server.breaks.clear()
    client = boto3.client("s3")
    for found in client.list_objects_v2(Bucket="corpus").get("Contents", []):
        client.delete_object(Bucket="corpus", Key=found["Key"])
    forget_credentials()
    return server
