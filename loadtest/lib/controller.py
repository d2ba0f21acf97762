"""The API of the running demo's controller. Standard library only."""

import http.client
import json
import ssl
import sys

from . import demo

_CONTEXT = demo.ENV.parent / "context.json"


def call(method, path, body=None):
    """Calls the API as the demo's admin, and returns the answer."""
    context = json.loads(_CONTEXT.read_text())
    trust = ssl.create_default_context(cadata=context["ca"])
    connection = http.client.HTTPSConnection(context["server"].removeprefix("https://"), context=trust, timeout=10)
    headers = {"authorization": "Bearer " + context["token"], "content-type": "application/json"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
    return json.loads(text)


def manifest(kind, name, spec):
    """A manifest, as it is applied."""
    return {"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
