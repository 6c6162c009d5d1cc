"""A TCP proxy on loopback that can drop everything without closing a connection, as a network does that lost its route."""

from __future__ import annotations

import socket
import threading


class BlackHole:
    """Proxy to a server; between `drop` and `forward` nothing passes in either direction, and nobody is told.

    What was under way at a drop never passes later, nor the end of such a connection: the server keeps its side of it open.

    Args:
        server: ``HOST:PORT``.

    Attributes:
        address: ``HOST:PORT`` of the proxy.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._dropping, self._drops, self._word = threading.Event(), 0, b""
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Drop everything from now on, and what is under way for good."""
        self._drops += 1
        self._dropping.set()

    def drop_at(self, word: bytes) -> None:
        """Drop everything from the next message to the server on that holds a word."""
        self._word = word

    def wait_for_drop(self, timeout_s: float) -> None:
        """Wait until it drops."""
        assert self._dropping.wait(timeout_s), "nothing was dropped"

    def forward(self) -> None:
        """Forward new connections again."""
        self._word = b""
        self._dropping.clear()

    def close(self) -> None:
        """End the proxy and its connections."""
        for item in (self._listener, *self._open):
            item.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                self._open.append(client)
                if self._dropping.is_set():
                    continue  # it stays open, and nobody answers
                server = socket.create_connection(self._server)
            except OSError:
                return  # closed
            self._open.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, sink, sink is server, self._drops), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool, drops: int) -> None:
        while True:
            try:
                content = source.recv(65536)
                if to_server and self._word and self._word in content:
                    self._word = b""
                    self.drop()
                if drops == self._drops:
                    sink.sendall(content)
                    if not content:
                        sink.shutdown(socket.SHUT_WR)
                if not content:
                    return
            except OSError:
                return  # closed
