#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Test vectors of store/api, computed without any of its code: hashlib, hmac, integers, XXH3-128 from its description.
#   vectors.py --write    rewrites vectors.txt beside this file (only when a format changes on purpose)
#   vectors.py --check    exits 1 and names the first line that differs
# tests/store/api_vectors_test.cc computes the same lines with the real code.
import hashlib
import hmac
import struct
import sys
from pathlib import Path

FILE = Path(__file__).with_name("vectors.txt")
M64 = (1 << 64) - 1


def sha(b):
    return hashlib.sha256(b).digest()


def mac(key, b):
    return hmac.new(key, b, hashlib.sha256).digest()


def record(number, payload):
    return struct.pack("<HI", number, len(payload)) + payload


# ---- XXH3-128, inputs above 240 bytes, no seed ----------------------------------------------------------------------
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def word(b, at):
    return struct.unpack_from("<Q", b, at)[0]


def xxh3_128(data):
    assert len(data) > 240
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]

    def stripe(at, secret_at):
        for i in range(8):
            value = word(data, at + 8 * i)
            key = value ^ word(SECRET, secret_at + 8 * i)
            acc[i ^ 1] = (acc[i ^ 1] + value) & M64
            acc[i] = (acc[i] + (key & 0xFFFFFFFF) * (key >> 32)) & M64

    blocks = (len(data) - 1) // 1024
    for block in range(blocks):
        for n in range(16):
            stripe(1024 * block + 64 * n, 8 * n)
        for i in range(8):
            a = acc[i] ^ (acc[i] >> 47) ^ word(SECRET, 128 + 8 * i)
            acc[i] = a * P32[0] & M64
    for n in range((len(data) - 1 - 1024 * blocks) // 64):
        stripe(1024 * blocks + 64 * n, 8 * n)
    stripe(len(data) - 64, 192 - 64 - 7)

    def merge(secret_at, start):
        result = start
        for i in range(4):
            product = acc[2 * i] ^ word(SECRET, secret_at + 16 * i)
            product *= acc[2 * i + 1] ^ word(SECRET, secret_at + 16 * i + 8)
            result += (product & M64) ^ (product >> 64)
        result &= M64
        result ^= result >> 37
        result = result * 0x165667919E3779F9 & M64
        return result ^ (result >> 32)

    low = merge(11, len(data) * P64[0] & M64)
    high = merge(192 - 64 - 11, ~(len(data) * P64[1]) & M64)
    return struct.pack(">QQ", high, low)


# ---- the formats ----------------------------------------------------------------------------------------------------
def namespace():
    body = b"".join([
        record(1, struct.pack("<I", 1)), record(2, b"\x01"), record(3, bytes(range(32))), record(4, b"bytes"),
        record(5, struct.pack("<I", 4)), record(6, struct.pack("<I", 2)), record(7, struct.pack("<I", 64)),
        record(8, struct.pack("<I", 64)), record(9, b"\x03"), record(10, struct.pack("<I", 16)),
        record(11, struct.pack("<d", 10000.0)), record(12, b""), record(13, b"cpu-f32"),
        record(14, b"adapter"), record(14, b"lora-b")])
    return body, body + record(0xFFFF, b"tiny")


def chain(domain, digest):
    tokens = [i * 7 + 1 for i in range(70)]  # four blocks and a tail
    extras = [b"", b"image:42"]
    keys = [mac(domain, digest)]
    for i in range(4):
        block = struct.pack("<I16I", 16, *tokens[16 * i:16 * i + 16])
        keys.append(mac(domain, keys[-1] + block + (extras[i] if i < len(extras) else b"")))
    return keys


def opaque(domain, digest):
    keys = [mac(domain, digest)]
    for name in (b"alpha", b"beta", b"\x00" * 512):
        keys.append(mac(domain, digest + keys[-1] + name))
    return keys[1:]


def view(spec, lossless, selection, layers, heads):
    return b"".join([record(1, spec), record(2, bytes([lossless])), record(3, selection),
                     record(4, struct.pack("<I", layers)), record(5, struct.pack("<I", heads))])


def part(layers):
    spec = b"Q:int(4,tok,64,asym)|P:bits"
    directory, offset = b"", 0
    for i in range(2 * layers):
        length = 5 + 3 * i
        directory += struct.pack("<IIII", offset, length, (0x9E3779B1 * (i + 1)) & 0xFFFFFFFF, 0)
        offset = (offset + length + 15) // 16 * 16
    head = struct.pack("<IHH", 0x50564B01, 1, 256) + sha(b"key") + sha(b"namespace") + sha(b"view")
    head += struct.pack("<HHHHIIIIHHI", 8, layers, 3, 1, 7, 16, 2 * layers, len(spec), 1, 3, 0)
    head += struct.pack("<QQQQQ", offset, 0, 0x1122334455667788, 0, 0) + sha(b"artefact")
    root = xxh3_128(head + bytes(48) + spec + directory)
    return root, head + root + bytes(32) + spec + bytes(-len(spec) % 16) + directory


# ---- placement: exact integers ------------------------------------------------------------------------------------
def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & M64
    return x ^ (x >> 31)


def fnv(text):
    h = 0xCBF29CE484222325
    for c in text.encode():
        h = (h ^ c) * 0x100000001B3 & M64
    return h


def log2_bits(mantissa):
    log = 0
    for _ in range(48):
        square = mantissa * mantissa
        carry = square >> 127
        mantissa = square >> (63 + carry)
        log = log * 2 + carry
    return log


TABLE = [log2_bits((1 << 63) + (i << 53)) for i in range(1024)] + [1 << 48]


def distance(h):
    h = max(h, 1)
    zeros = 64 - h.bit_length()
    fraction = (h << zeros << 1) & M64
    index, rest = fraction >> 54, (fraction << 10) & M64
    return ((zeros + 1) << 48) - (TABLE[index] + ((TABLE[index + 1] - TABLE[index]) * rest >> 64))


MEMBERS = [("n1", 1, 100, "a"), ("n2", 2, 100, "a"), ("n3", 4, 200, "b"), ("n4", 1, 50, ""), ("n5", 3, 100, "b")]


def place(key, count):
    from fractions import Fraction
    words = struct.unpack_from("<QQ", key)
    ranked = []
    for i, (name, shards, weight, zone) in enumerate(MEMBERS):
        h = mix((mix(fnv(name) ^ words[0]) + words[1]) & M64)
        shard = mix(h ^ 0x6B76617369720000) * shards >> 64
        ranked.append((-Fraction(weight, distance(h)), i, shard, zone or name))
    waiting, chosen = sorted(ranked), []
    while waiting and len(chosen) < count:
        zones, later = set(), []
        for candidate in waiting:
            if len(chosen) < count and candidate[3] not in zones:
                zones.add(candidate[3])
                chosen.append(candidate)
            else:
                later.append(candidate)
        waiting = later
    return " ".join(f"{MEMBERS[i][0]}/{shard}" for _, i, shard, _ in chosen)


def vectors():
    domain = sha(b"kvasir domain key 1:open sesame")
    body, encoded = namespace()
    digest = sha(body)
    yield "domain.key", domain.hex()
    yield "domain.id", sha(b"kvasir domain id 1:" + domain).hex()
    yield "hmac", mac(domain, b"what do ya want for nothing?").hex()
    yield "namespace.encoded", encoded.hex()
    yield "namespace.digest", digest.hex()
    for i, key in enumerate(chain(domain, digest)):
        yield f"chain.{i}", key.hex()
    for i, key in enumerate(opaque(domain, digest)):
        yield f"opaque.{i}", key.hex()
    for i, v in enumerate([view(b"P:raw", 1, b"", 8, 1), view(b"Q:int(4,tok,64,asym)|P:bits", 0, b"query:7", 4, 2)]):
        yield f"view.{i}.encoded", v.hex()
        yield f"view.{i}.digest", sha(v).hex()
    for layers in (4, 64):
        root, whole = part(layers)
        yield f"part.{layers}.root", root.hex()
        yield f"part.{layers}.sha256", sha(whole).hex()
    for i in range(8):
        yield f"place.{i}", place(sha(b"run%d" % i), 5)


def main():
    lines = [f"{name} = {value}" for name, value in vectors()]
    if sys.argv[1:] == ["--write"]:
        FILE.write_text("\n".join(lines) + "\n")
        return 0
    if sys.argv[1:] != ["--check"]:
        print(__doc__ or "usage: vectors.py --check | --write")
        return 2
    committed = FILE.read_text().splitlines()
    for mine, theirs in zip(lines, committed):
        if mine != theirs:
            print(f"vectors.txt says  {theirs}\nthe script says   {mine}")
            return 1
    if len(lines) != len(committed):
        print(f"vectors.txt has {len(committed)} lines, the script {len(lines)}")
        return 1
    print(f"{len(lines)} vectors agree")
    return 0


sys.exit(main())
