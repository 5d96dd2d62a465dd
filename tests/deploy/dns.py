# SPDX-License-Identifier: Apache-2.0
"""The DNS of a test's cluster: answers A for the names it was given, nothing for other types of them, "no such name" for the rest
(RFC 1035, one question a message, over UDP). A process of its own, so that whoever started it may fork."""
import os
import socket
import struct

PORT = 53
A, NO_SUCH_NAME = 1, 3
RESPONSE, TTL_S = 0x8400, 5  # authoritative


def question(message):
    """(name, type, end) of the first question."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels).lower(), struct.unpack(">H", message[at + 1:at + 3])[0], at + 5


def answer(message, names):
    name, kind, end = question(message)
    address = names.get(name)
    records = [address] if address and kind == A else []
    head = struct.pack(">HHHHHH", struct.unpack(">H", message[:2])[0], RESPONSE | (0 if address else NO_SUCH_NAME), 1, len(records), 0, 0)
    body = b"".join(struct.pack(">HHHIH", 0xC00C, A, 1, TTL_S, 4) + socket.inet_aton(one) for one in records)
    return head + message[12:end] + body


def serve(address, names):
    """Starts it; the pid to end. `names` are full names without the last dot, to addresses."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, PORT))
    child = os.fork()
    if child != 0:
        server.close()
        return child
    while True:
        message, sender = server.recvfrom(4096)
        try:
            server.sendto(answer(message, names), sender)
        except (IndexError, struct.error, UnicodeDecodeError):
            continue  # not a question
