"""Whom we trust: the system's certificates, certifi's, and those that the operator adds."""

import asyncio
import os
import ssl
from pathlib import Path

import certifi


class TlsContexts:
    """One verifying context for each file of additional certificates, made when it is first needed."""

    def __init__(self) -> None:
        self._contexts: dict[Path | None, asyncio.Future[ssl.SSLContext]] = {}

    async def get(self, ca_file: Path | None) -> ssl.SSLContext:
        """Return the context that also trusts what is in `ca_file`; a failure is tried again.

        It is made in a thread, because parsing hundreds of certificates takes tens of milliseconds.

        Raises:
            OSError: the file cannot be read, or (ssl.SSLError) holds no certificates.
        """
        context = self._contexts.get(ca_file)
        if context is None or (context.done() and context.exception() is not None):
            making = asyncio.get_running_loop().run_in_executor(None, _make_context, ca_file)
            context = self._contexts[ca_file] = making
        return await asyncio.shield(context)  # others may wait for it, too


def _make_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # older Pythons leave it to the system
    context.load_verify_locations(certifi.where())
    # OpenSSL reads SSL_CERT_FILE instead of the system's file; here it only adds to it.
    system_file = Path(ssl.get_default_verify_paths().openssl_cafile)
    if "SSL_CERT_FILE" in os.environ and system_file.is_file():
        context.load_verify_locations(system_file)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
