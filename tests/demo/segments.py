# SPDX-License-Identifier: Apache-2.0
"""Damage: one bit of one stored part, flipped in a node's segment file, as a failing disk would.

Reads just enough of the format (store/api/part.h) to hit the payload of a wanted block: records begin at multiples of 4,096
with the part header: magic, key at byte 8, spec length at 124; then the spec, padded to 16, the directory, the frames.
"""
import struct

BLOCK = 4096
MAGIC = b"\x01KVP"
HEADER_BYTES = 256
DIRECTORY_ENTRY_BYTES = 16


def parts_in(path):
    """(offset, key in hex, spec, offset of the frames, bytes of the frames) of everything that looks like a part."""
    with open(path, "rb") as file:
        data = file.read()
    at = data.find(MAGIC)
    while at >= 0:
        if at % BLOCK == 0 and at + HEADER_BYTES <= len(data):
            key = data[at + 8:at + 40].hex()
            frames, spec_bytes = struct.unpack_from("<II", data, at + 120)
            frames_bytes, = struct.unpack_from("<Q", data, at + 136)
            spec = data[at + HEADER_BYTES:at + HEADER_BYTES + min(spec_bytes, 512)].decode("ascii", errors="replace")
            begin = at + HEADER_BYTES + (spec_bytes + 15) // 16 * 16 + frames * DIRECTORY_ENTRY_BYTES
            yield at, key, spec, begin, frames_bytes
        at = data.find(MAGIC, at + 1)


def flip_a_bit(directory, key, spec):
    """Flips a bit inside the first frame of the first part of that block and codec. Says where: (file, offset)."""
    for path in sorted((directory / "segments").glob("*.seg")):
        for _, found_key, found_spec, begin, frames_bytes in parts_in(path):
            if found_key == key and spec in found_spec:
                offset = begin + frames_bytes // 4  # K and V, a frame each, are about as long
                with open(path, "r+b") as file:
                    file.seek(offset)
                    byte = file.read(1)[0]
                    file.seek(offset)
                    file.write(bytes([byte ^ 0x10]))
                return path, offset
    return None
