"""The route table: every path of the gateway, and who may use it.

Inference paths are looked up in a dictionary before anything else; all others are Starlette's.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.core.errors import RequestRefused, SluiceError
from proxy.gateway.admission import exchange_id
from proxy.gateway.clock import Clock
from proxy.gateway.request import CHAT, COMPLETIONS, EMBEDDINGS, PASSED_THROUGH, Endpoint
from proxy.web.errors import render
from proxy.web.inference import Inference

PREFIXES = ("/v1/", "/api/v1/")
#: These are served without a prefix too.
BARE = (CHAT, COMPLETIONS, EMBEDDINGS)


def inference_paths() -> dict[str, Endpoint]:
    """Return every path of an inference endpoint."""
    endpoints = (CHAT, COMPLETIONS, EMBEDDINGS, *PASSED_THROUGH)
    paths = {prefix + endpoint.path: endpoint for endpoint in endpoints for prefix in PREFIXES}
    paths.update({"/" + endpoint.path: endpoint for endpoint in BARE})
    return paths
