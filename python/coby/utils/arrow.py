"""Arrow types by the names that the core gives to the types of columns."""

import pyarrow as pa


def arrow_type(name: str) -> pa.DataType:
    """The type that `_core.schema()` calls `name`: `int64`, `string`, `list<double>`, and so on."""
    if name.startswith("list<"):
        return pa.list_(arrow_type(name.removeprefix("list<").removesuffix(">")))
    kind: pa.DataType = pa.type_for_alias(name)  # type: ignore[call-overload]  # the stub wants literals
    return kind
