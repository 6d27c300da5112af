"""What is measured and what answers behind it: the mock upstream, nginx, and the gateway under test."""

import http.client
import json
import os
import pwd
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from processes import BenchError, Process, free_port

API_KEY = "sk-sluice-bench-0123456789abcdefghijklmnopqrstuvwxyz"
CHUNKS_PER_STREAM = 250  # an answer of about 250 tokens, 5 s long at the rate below
CHUNK_RATE = 50  # chunks per second and stream: a fast provider
ADMIN_KEY = "sk-admin-bench-0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Target:
    """One address to measure: whose CPU and memory count, and what its requests carry."""

    name: str
    port: int
    pids: tuple[int, ...]
    model: str = "mock-model"
    authorization: str = "Bearer sk-bench-upstream"
    dialect: str = "chat"


def request(
    port: int, method: str, path: str, headers: Mapping[str, str], body: object = None
) -> tuple[int, bytes]:
    """Send one request on a connection of its own and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def start_mock(stack: ExitStack, programs: Path, folder: Path, core: int) -> Target:
    """Start the mock upstream. Measured directly, its own CPU is what counts."""
    port = free_port()
    command = [str(programs / "mock"), str(port)]
    process = stack.enter_context(Process(command, core=core, log=folder / "mock.log"))
    process.wait_until_listening(port)
    return Target("direct", port, (process.pid,))


NGINX_CONFIG = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream mock {{
        server 127.0.0.1:{upstream};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")  # the latter is not in every user's PATH


def start_nginx(stack: ExitStack, upstream: Target, folder: Path, core: int) -> Target:
    """Start nginx with one worker as a plain proxy.

    Raises:
        BenchError: it is not installed, does not start, or (at the end) leaves its worker behind.
    """
    nginx = find_nginx()
    if nginx is None:
        raise BenchError("nginx is not installed (Debian: nginx-light); or use --targets direct,gateway")
    port = free_port()
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port, upstream=upstream.port, user=user))
    command = [nginx, "-c", str(config), "-p", str(folder)]
    process = Process(command, core=core, log=folder / "nginx.log")
    stack.callback(_stop_nginx, process)
    process.wait_until_listening(port)
    while not process.children():  # the master listens before it forks
        process.require_running()
        time.sleep(0.002)
    return Target("nginx", port, process.children())


def _stop_nginx(process: Process) -> None:
    """End the master, and verify that its workers went with it: an orphan would go on serving the port."""
    workers = process.children()
    process.stop()
    left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        raise BenchError(f"nginx left its workers {left} behind; they were killed")


GATEWAY_CONFIG = """\
server: {{host: 127.0.0.1, port: {port}, shutdown_grace_s: 3}}
database: {folder}/bench.db
admin_key: {admin_key}
api_key: {api_key}
billing: {{currency: USD, mode: {mode}}}
limits: {{default_plan: bench}}
plans:
  bench: {{rpm: 1000000000, tpm: 1000000000000, rpd: 1000000000, tpd: 1000000000000, concurrency: 100000}}
providers:
  mock: {{base_url: "http://127.0.0.1:{upstream}/v1", api_key: sk-bench-upstream}}
  paced: # no translation knows the mock's own fields
    base_url: "http://127.0.0.1:{upstream}/v1"
    api_key: sk-bench-upstream
    overrides: {{default: {{bench_chunks: {chunks}, bench_rate: {rate}}}}}
  demo: {{preset: echo}}
models:
  bench-model:
    routes: [mock/mock-model]
    context_window: 128000
    max_output: 8192
    price: {{input: 2, output: 8, cached_input: 0.2, currency: USD, per: 1M}}
  paced-model:
    routes: [paced/mock-model]
    price: {{input: 2, output: 8, cached_input: 0.2, currency: USD, per: 1M}}
"""


class Gateway:
    """The gateway under test: one key, a plan with every limit (too high to refuse), usage records committed.

    `command` is its command line; the item `{config}` stands for the path of the configuration.
    `mode` is `billing.mode`; prepaid needs `fund()` before the first request.
    """

    def __init__(
        self, command: Sequence[str], upstream: Target, folder: Path, core: int, mode: str = "track"
    ) -> None:
        folder.mkdir()
        self.port = free_port()
        config = folder / "config.yaml"
        config.write_text(
            GATEWAY_CONFIG.format(
                port=self.port,
                folder=folder,
                admin_key=ADMIN_KEY,
                api_key=API_KEY,
                upstream=upstream.port,
                chunks=CHUNKS_PER_STREAM,
                rate=CHUNK_RATE,
                mode=mode,
            )
        )
        self._command = [str(config) if item == "{config}" else item for item in command]
        self._log = folder / "gateway.log"
        self._core = core
        self.target = Target("gateway", self.port, ())
        self.process: Process | None = None

    def start(self, stack: ExitStack) -> Target:
        self.process = stack.enter_context(Process(self._command, core=self._core, log=self._log))
        self.process.wait_until_listening(self.port)
        self.target = Target("gateway", self.port, (self.process.pid,), "bench-model", f"Bearer {API_KEY}")
        return self.target

    def fund(self, amount: str) -> None:
        """Put money into the account's wallet, as an operator would."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "bench-funds"}
        path = "/admin/api/accounts/default/topup"
        status, answer = request(self.port, "POST", path, headers, {"amount": amount})
        if status != 200:
            raise BenchError(f"the top-up answered {status}: {answer[:300]!r}")

    def recorded_requests(self) -> int:
        """Return how many exchanges the gateway's own usage report counts."""
        headers = {"Authorization": f"Bearer {API_KEY}"}
        status, answer = request(self.port, "GET", "/v1/usage", headers)
        if status != 200:
            raise BenchError(f"/v1/usage answered {status}: {answer[:300]!r}")
        return int(json.loads(answer)["requests"])
