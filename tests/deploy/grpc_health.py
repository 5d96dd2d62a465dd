# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1.Health/Check by hand, as kubelet's gRPC probe asks it: one HTTP/2 connection, one stream, no library.

Only what a probe needs of HTTP/2 (RFC 9113) and HPACK (RFC 7541): literal headers out; of the answer the DATA frames, since a
refused check has none.
"""
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header that is not indexed, both texts plain: all of ours are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def receive(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("closed before the answer")
        data += more
    return data


def check(host, port, service, timeout=10):
    """"SERVING", "NOT_SERVING", ... of a service; "" when the server refuses (no such service). OSError when nobody answers."""
    name = service.encode()
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/grpc.health.v1.Health/Check"),
               (b":authority", host.encode()), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") +
                           frame(HEADERS, END_HEADERS, 1, b"".join(literal(*one) for one in headers)) +
                           frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, len(request)) + request))
        body = b""
        while True:
            head = receive(connection, 9)
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream, payload = int.from_bytes(head[5:], "big") & 0x7FFFFFFF, receive(connection, length)
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                connection.sendall(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                body += payload[1:len(payload) - payload[0]] if flags & PADDED else payload
            elif kind in (RST_STREAM, GOAWAY):
                raise ConnectionError("the server ended the call")
            if stream == 1 and flags & END_STREAM and kind in (DATA, HEADERS):
                break
    if len(body) < 5:
        return ""
    message = body[5:]
    return STATUS[message[1] if message[:1] == b"\x08" else 0]
