"""Seeds derived from names, so that adding an option never shifts another draw."""

import hashlib


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from a sequence of names and numbers, the same on every machine and in every process.

    ``derive_seed("streets", "G", "train", 7)`` depends on nothing but its arguments: not on the order in which
    other seeds were drawn, not on the number of workers, not on Python's hash randomization.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
