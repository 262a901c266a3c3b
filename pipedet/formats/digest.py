"""The SHA-256 of a file of any size."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the digest of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
