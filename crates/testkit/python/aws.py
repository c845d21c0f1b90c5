"""moto, for clients that speak CBOR to CloudWatch.

Listens on the address that is its argument, prints its port, serves until its stdin ends. Requests of Smithy's rpc-v2-cbor
protocol, which moto does not know, become those of the older JSON protocol, and its answers CBOR again; everything else
passes as it is.
"""

import datetime
import io
import json
import os
import sys
import threading

import cbor2
import botocore.session
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

MODELS = {"GraniteServiceVersion20100801": "cloudwatch"}


class Translator:
    """WSGI: rpc-v2-cbor outside, JSON 1.0 inside."""

    def __init__(self, inner):
        self.inner = inner
        session = botocore.session.get_session()
        self.models = {target: session.get_service_model(name) for target, name in MODELS.items()}

    def __call__(self, environ, start_response):
        if environ.get("HTTP_SMITHY_PROTOCOL") != "rpc-v2-cbor":
            return self.inner(environ, start_response)
        # /service/<target>/operation/<name>
        _, _, target, _, operation = environ["PATH_INFO"].split("/")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        if environ.get("HTTP_CONTENT_ENCODING") == "gzip":
            import gzip

            body = gzip.decompress(body)
            del environ["HTTP_CONTENT_ENCODING"]
        asked = cbor2.loads(body) if body else {}
        text = json.dumps(asked, default=seconds).encode()
        environ.update(
            {
                "PATH_INFO": "/",
                "RAW_URI": "/",
                "REQUEST_URI": "/",
                "CONTENT_TYPE": "application/x-amz-json-1.0",
                "CONTENT_LENGTH": str(len(text)),
                "HTTP_X_AMZ_TARGET": f"{target}.{operation}",
                "wsgi.input": io.BytesIO(text),
            }
        )
        for name in ("HTTP_SMITHY_PROTOCOL", "HTTP_ACCEPT"):
            environ.pop(name, None)
        said = {}

        def begin(status, headers, exc_info=None):
            said["status"] = status

        answer = b"".join(self.inner(environ, begin))
        found = json.loads(answer) if answer.strip() else {}
        if said["status"].startswith("2"):
            shape = self.models[target].operation_model(operation).output_shape
            found = typed(found, shape)
        elif "__type" in found:
            found["__type"] = found["__type"].rsplit("#")[-1]
            found.setdefault("message", found.get("Message", ""))
        encoded = cbor2.dumps(found)
        headers = [
            ("Content-Type", "application/cbor"),
            ("smithy-protocol", "rpc-v2-cbor"),
            ("Content-Length", str(len(encoded))),
        ]
        start_response(said["status"], headers)
        return [encoded]


def seconds(value):
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    raise TypeError(type(value))


def typed(value, shape):
    """What JSON has no types for gets them from the service's model."""
    if value is None or shape is None:
        return value
    if shape.type_name == "structure":
        return {name: typed(item, shape.members.get(name)) for name, item in value.items() if item is not None}
    if shape.type_name == "list":
        return [typed(item, shape.member) for item in value]
    if shape.type_name == "map":
        return {name: typed(item, shape.value) for name, item in value.items()}
    if shape.type_name == "timestamp":
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        return cbor2.CBORTag(1, float(value))
    if shape.type_name in ("double", "float"):
        return float(value)
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name == "boolean" and isinstance(value, str):
        return value.lower() == "true"
    return value


def main():
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    server = make_server(sys.argv[1], 0, Translator(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
