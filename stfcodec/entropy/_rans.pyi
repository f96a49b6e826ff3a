from typing import Any

def encode(
    cdf: Any,
    length: Any,
    offset: Any,
    coarse: Any,
    indexes: Any,
    symbols: Any,
    state: int,
) -> tuple[int, bytes, int]: ...
def decode(
    cdf: Any,
    length: Any,
    offset: Any,
    coarse: Any,
    indexes: Any,
    data: Any,
    symbols: Any,
    at: int,
    state: int,
) -> tuple[int, int, int]: ...
