"""Binary frames as text, by what the fact sheets say of them and nothing else."""

import gzip


def unpacked(payload: str | bytes) -> str:
    """What a frame says: itself, unzipped, or what is only called binary."""
    if isinstance(payload, str):
        return payload
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload).decode()
    return payload.decode()
