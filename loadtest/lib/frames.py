"""HTTP/2 frames and HPACK by hand (RFC 9113, RFC 7541), for what no library would send. Standard library only."""

import select
import socket
import ssl

from . import demo

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
CANCEL = (8).to_bytes(4, "big")
LARGEST_FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ERRORS = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
          "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
          "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]


def frame(kind, flags, stream, payload=b""):
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(number, value):
    """One setting, as in a SETTINGS frame."""
    return number.to_bytes(2, "big") + value.to_bytes(4, "big")


def string(text):
    """A string without Huffman coding."""
    return integer(len(text), 7) + text.encode()


def integer(value, bits, first=0):
    """An integer behind a prefix (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    rest = value - most
    out = [first | most]
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes([*out, rest])


def field(name, value):
    """A field that enters no table."""
    return b"\x00" + string(name) + string(value)


def indexed(name, value):
    """A field that enters the table, as its newest entry (index 62)."""
    return b"\x40" + string(name) + string(value)


def head(path, method="GET"):
    """The fields that each request has."""
    return b"".join(field(*pair) for pair in [
        (":method", method), (":scheme", "https"), (":authority", demo.ECHO), (":path", path)])


def request(stream, path="/"):
    """A whole request without a body."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, head(path))


def split_head(stream, fields):
    """A request whose head needs several frames."""
    parts = [fields[at:at + LARGEST_FRAME] for at in range(0, len(fields), LARGEST_FRAME)]
    last = len(parts) - 1
    kinds = [(HEADERS, END_STREAM)] + [(CONTINUATION, 0)] * last
    return b"".join(frame(kind, flags | (END_HEADERS if number == last else 0), stream, part)
                    for number, ((kind, flags), part) in enumerate(zip(kinds, parts)))


class Connection:
    """A connection to a gateway, which reads while it writes: a flooded server may do only one of them."""

    def __init__(self, address):
        self.socket = socket.create_connection((address, demo.HTTPS), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = demo.trust("h2").wrap_bio(self.incoming, self.outgoing, server_hostname=demo.ECHO)
        self.pending, self.buffer = b"", b""
        self.sent, self.ended = 0, None
        self._shake_hands()
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data):
        """Has these bytes sent by the next moves."""
        self.tls.write(data)
        self.pending += self.outgoing.read()

    def move(self, seconds):
        """Sends and receives what can be in this time, at most; returns early when all is sent."""
        readable, writable, _ = select.select([self.socket], [self.socket] if self.pending else [], [], seconds)
        try:
            # Reading comes first: a server that closes says why before.
            if readable:
                self._receive()
            if writable and self.ended is None:
                count = self.socket.send(self.pending[:LARGEST_FRAME])
                self.sent, self.pending = self.sent + count, self.pending[count:]
        except (BrokenPipeError, ConnectionResetError):
            self.ended = self.ended or "reset"

    def _receive(self):
        received = self.socket.recv(65_536)
        if received:
            self.incoming.write(received)
            self._read()
        else:
            self.ended = self.ended or "closed"

    def _shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.incoming.write(self.socket.recv(65_536))

    def _read(self):
        try:
            while received := self.tls.read(65_536):
                self._parse(received)
        except ssl.SSLWantReadError:
            return

    def _parse(self, received):
        """Of all that the server says, only that it has had enough is of interest."""
        self.buffer += received
        while len(self.buffer) >= 9 and len(self.buffer) >= (end := 9 + int.from_bytes(self.buffer[:3], "big")):
            if self.buffer[3] == GOAWAY:
                code = int.from_bytes(self.buffer[13:17], "big")
                self.ended = f"GOAWAY {ERRORS[code] if code < len(ERRORS) else code}"
            self.buffer = self.buffer[end:]
