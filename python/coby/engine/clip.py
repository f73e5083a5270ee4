"""Parts of cuts."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from coby.interfaces import Cut, Part, Rows


def clipped(cut: Cut, after: int) -> Cut:
    """What of a cut lies behind a position; the cut itself if all of it does."""
    if cut.first_pos > after:
        return cut
    batches = {}
    for kind in cut.rows:
        batch = pa.record_batch(cut.batch(kind))
        kept = batch.filter(pc.greater(batch["pos"], pa.scalar(after, pa.uint64())))
        if kept.num_rows:
            batches[kind] = kept
    return Part(after + 1, cut.last_pos, batches)


def checked(rows: Rows, cut: Cut, others: Collection[str] = ()) -> dict[str, pa.RecordBatch]:
    """Rows that were added to a cut, without empty kinds.

    Raises:
        ValueError: They lack what every row has, their positions lie outside the cut, or they are of a kind of the cut
            or of `others`.
    """
    batches = {}
    for kind, given in rows.items():
        if kind in others or kind in cut.rows:
            raise ValueError(f"rows of the kind {kind} are there already")
        batch = pa.record_batch(given)
        for name in ("pos", "n", "venue", "ts_recv"):
            if name not in batch.schema.names:
                raise ValueError(f"{kind} has no column {name}")
        if not batch.num_rows:
            continue
        least, most = pc.min(batch["pos"]).as_py(), pc.max(batch["pos"]).as_py()
        if not cut.first_pos <= least <= most <= cut.last_pos:
            raise ValueError(f"{kind} has rows of positions outside {cut.first_pos}..={cut.last_pos}")
        batches[kind] = batch
    return batches
