"""What Arrow columns hold, where its type stubs do not say."""

from typing import Any

import numpy as np
import pyarrow as pa

from coby.api.numbers import Floats, Integers


def lists(column: "pa.ChunkedArray[Any]") -> tuple[Integers, Floats]:
    """A column of lists of floats: where each list begins and, at the end, the last one ends; and all values."""
    offsets, values, end = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.float64)], 0
    for chunk in column.chunks:
        array: Any = chunk
        lengths = np.diff(array.offsets.to_numpy())
        offsets.append(end + np.cumsum(lengths, dtype=np.int64))
        end = int(offsets[-1][-1]) if lengths.size else end
        values.append(array.flatten().to_numpy(zero_copy_only=False))
    return np.concatenate(offsets), np.concatenate(values)


def whole_numbers(column: "pa.ChunkedArray[Any]") -> list[int]:
    """The values of a column that has no nulls."""
    found: list[Any] = column.to_pylist()
    return found


def codes(column: "pa.ChunkedArray[Any]") -> tuple[Integers, int]:
    """For each row a number that equal values share, and how many there are."""
    array: Any = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    return array.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(array.dictionary)
