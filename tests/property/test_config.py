"""Settings survive whatever an environment holds, and mean to the core what was written."""

import os
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coby.config import Settings, load
from coby.utils.exceptions import ConfigError

VARIABLES = ["DB_PORT", "HEATMAP_DEPTH", "UPDATE_FREQUENCY", "BTC_BUCKET_SIZE", "SOL_BUCKET_SIZE", "COBY_PROXIES"]
VARIABLES += ["COBY_VENUES", "COBY_SIMULATE", "COBY_LOG_LEVEL", "MAX_MEMORY_USAGE", "DB_HOST", "DB_PASSWORD"]
VARIABLES += ["COBY_SYMBOLS", "COBY_ROOT_CERTIFICATES"]
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=30) | st.sampled_from(
    ["0.5", "10", "1,2", "http://h:1"]
)
BASES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20)
SIZES = st.decimals(Decimal("1e-18"), 9, places=18).filter(bool) | st.decimals(Decimal("0.01"), 10**9, places=2)


@pytest.fixture(scope="module", autouse=True)
def _elsewhere() -> object:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        yield
        os.chdir(before)


def loaded(environ: dict[str, str]) -> Settings | ConfigError:
    try:
        return load(environ=environ)
    except ConfigError as error:
        return error


@given(st.dictionaries(st.sampled_from(VARIABLES), TEXTS, max_size=4))
def test_any_text_is_a_setting_or_one_clear_line(environ: dict[str, str]) -> None:
    read = loaded(environ)
    if isinstance(read, ConfigError):
        assert read.context["where"] in environ
        assert str(read).startswith(f'{read.context["where"]} is "')
        assert str(read).isprintable()
    else:
        origins = {report.where for report in read.report() if report.origin == "env"}
        assert origins == {name for name, text in environ.items() if text}


@given(st.dictionaries(BASES, st.lists(SIZES, min_size=1, max_size=3, unique=True), max_size=4))
def test_bucket_sizes_reach_the_core_exactly(sizes: dict[str, list[Decimal]]) -> None:
    environ = {f"{base}_BUCKET_SIZE": ", ".join(f"{size:f}" for size in given) for base, given in sizes.items()}
    settings = load(environ=environ)
    sent = {entry["base"]: list(map(Decimal, entry["sizes"])) for entry in settings.pipeline_settings()["bucket_sizes"]}
    assert sent == {"BTC": [Decimal(10)], "ETH": [Decimal(1)]} | sizes
    assert list(sent) == sorted(sent)
    for base, given_sizes in sizes.items():
        assert settings.get_bucket_size(f"{base}-USDT") == float(given_sizes[0])


@given(st.integers(1, 36_000))
def test_every_tenth_of_a_second_is_on_the_grid(tenths: int) -> None:
    settings = load(environ={"UPDATE_FREQUENCY": f"{tenths // 10}.{tenths % 10}"})
    assert settings.pipeline_settings()["update_interval_ms"] == tenths * 100


@given(st.floats(1e-9, 1e9))
def test_the_default_bucket_is_a_power_of_ten_just_below_a_5000th(price: float) -> None:
    size = Decimal(str(load(environ={}).get_bucket_size("XYZ-EUR", price)))
    assert size.scaleb(-size.adjusted()) == 1
    assert size * 5000 <= Decimal(repr(price)) < size * 50_000
