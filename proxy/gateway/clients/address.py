"""Under which URL clients reach the gateway, as far as its configuration tells."""

from proxy.config.schema import Server
from proxy.config.urls import is_any, is_loopback


def server_url(server: Server) -> str:
    """Return the URL for programs of this machine, or the name that the configuration allows."""
    host = server.host
    if not is_loopback(host) and server.allowed_hosts:
        host = server.allowed_hosts[0].replace("*", "sluice")
    elif is_any(host):
        host = "::1" if ":" in host else "127.0.0.1"
    port = server.port or Server().port  # 0: any free one, which nobody knows before the start
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
