# SPDX-License-Identifier: Apache-2.0
"""The two prompts: a text, and another that begins the same and goes on differently."""
import pathlib

from cluster import Trouble

BLOCK = 128
BLOCKS_MIN = 4  # two runs, so that the prompt lies on more than one node


class BadPrompt(Trouble):
    """The user's text cannot be used: exit status 2."""


def read(path, context, new_tokens):
    try:
        text = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise BadPrompt(f"--prompt {path}: {error.strerror}. Give a file that can be read") from None
    if not text:
        raise BadPrompt(f"--prompt {path} has 0 bytes: there is nothing to compute. Give a text of {BLOCKS_MIN * BLOCK} to "
                        f"{context - new_tokens} bytes")
    if len(text) > context - new_tokens:
        raise BadPrompt(f"--prompt {path} has {len(text)} bytes, but the model's context is {context} and {new_tokens} new bytes "
                        f"must fit behind it. Give at most {context - new_tokens}: head -c {context - new_tokens} {path}")
    if len(text) < BLOCKS_MIN * BLOCK:
        raise BadPrompt(f"--prompt {path} has {len(text)} bytes. Blocks have {BLOCK} and the demo spreads at least {BLOCKS_MIN} over "
                        f"its nodes: give a text of {BLOCKS_MIN * BLOCK} bytes or more")
    return text


def sibling(text):
    """The same beginning, two thirds of the blocks, and another tail: the rest of the text, its bytes turned round."""
    keep = max(1, len(text) // BLOCK * 2 // 3) * BLOCK
    return text[:keep] + text[keep:][::-1]


def shared_blocks(one, other):
    """Whole blocks that both begin with."""
    same = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return same // BLOCK
