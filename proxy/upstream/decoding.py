"""Undoing the compression of upstreams that compress although they were asked not to."""

import zlib

# Decompressed bytes that are handed on at once, whatever the compressed ones expand to.
PIECE_BYTES = 64 * 1024


class UndecodableBody(Exception):
    """A body is not what its Content-Encoding says, ends too early, or has an encoding unknown here."""


class Decoder:
    """Inflates gzip and deflate, a bounded piece at a time. RFC 9110 8.4.1"""

    def __init__(self, encoding: bytes) -> None:
        """Raises UndecodableBody for any other encoding."""
        self._name = encoding.decode("latin-1").strip().lower()[:50]
        if self._name not in ("gzip", "x-gzip", "deflate"):
            raise UndecodableBody(f"content-encoding {self._name}")
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS) if "gzip" in self._name else None
        self._input = b""
        self._fed = False

    def feed(self, data: bytes) -> None:
        self._input += data
        self._fed = self._fed or bool(data)

    def take(self) -> bytes:
        """Return the next piece, or b"" when that needs more input."""
        try:
            return self._inflate()
        except zlib.error as error:
            raise UndecodableBody(f"damaged {self._name}: {error}") from None

    def finish(self) -> None:
        """Say that there is no more input. A body without a byte is complete: 204 has none."""
        if self._fed and not (self._inflater and self._inflater.eof):
            raise UndecodableBody(f"{self._name} ended too early")

    def _inflate(self) -> bytes:
        if self._inflater is None:
            if len(self._input) < 2:
                return b""
            self._inflater = zlib.decompressobj(_deflate_bits(self._input))
        while True:
            if self._inflater.eof:
                if not self._input:
                    return b""
                # RFC 1952 2.2: "A gzip file consists of a series of 'members'".
                self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
            # Output may be left inside the inflater when the input is used up: ask in any case.
            piece = self._inflater.decompress(self._input, PIECE_BYTES)
            self._input = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece or not self._input:
                return piece


def _deflate_bits(start: bytes) -> int:
    """RFC 9110 8.4.1.2: "Some non-conformant implementations send the "deflate" compressed data
    without the zlib wrapper". Its two bytes are recognised by RFC 1950 2.2.
    """
    has_wrapper = start[0] & 15 == 8 and int.from_bytes(start[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_wrapper else -zlib.MAX_WBITS
