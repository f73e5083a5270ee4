import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import coby.config as module
from coby.config import SettingReport, Settings, add_flags, load
from coby.utils.exceptions import ConfigError, UnknownVenueError
from coby.utils.redaction import redact

CERTIFICATES = str(Path(__file__))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def reported(settings: Settings, name: str) -> SettingReport:
    return next(report for report in settings.report() if report.name == name)


# Variable, setting, a good text and its value, and texts that are refused.
VARIABLES: list[tuple[str, str, str, object, list[str]]] = [
    ("DB_HOST", "db_host", "db.example", "db.example", [" "]),
    ("DB_PORT", "db_port", "6543", 6543, ["0", "65536", "x", "5432.5"]),
    ("DB_NAME", "db_name", "ticks", "ticks", [" "]),
    ("DB_USER", "db_user", "reader", "reader", [" "]),
    ("DB_PASSWORD", "db_password", "hunter22", "***", []),
    ("REDIS_HOST", "redis_host", "cache.example", "cache.example", [" "]),
    ("REDIS_PORT", "redis_port", "6380", 6380, ["-1", "70000"]),
    ("REDIS_PASSWORD", "redis_password", "hunter23", "***", []),
    ("BTC_BUCKET_SIZE", "bucket_sizes.BTC", "25", "25", ["0", "-1", "ten", "1e1", "1,x", "0.0000000000000000001"]),
    ("ETH_BUCKET_SIZE", "bucket_sizes.ETH", "0.50", "0.5", ["0", ","]),
    ("SOL_BUCKET_SIZE", "bucket_sizes.SOL", "0.1, 1", "0.1, 1", ["nan", "inf"]),
    ("1INCH_BUCKET_SIZE", "bucket_sizes.1INCH", "0.001", "0.001", ["9223372036854775808"]),
    ("HEATMAP_DEPTH", "heatmap_depth", "200", 200, ["0", "10001", "5.5", "many"]),
    ("UPDATE_FREQUENCY", "update_frequency", "0.3", 0.3, ["0", "0.25", "3600.1", "nan", "inf", "often"]),
    ("DATA_BUFFER_SIZE", "data_buffer_size", "20000", 20000, ["0", "10000001"]),
    ("BATCH_WRITE_SIZE", "batch_write_size", "5000", 5000, ["0", "-5"]),
    ("MAX_MEMORY_USAGE", "max_memory_usage", "4096", 4096, ["63", "2GB"]),
    ("COBY_VENUES", "venues", "kraken, okx,kraken", ("kraken", "okx"), []),
    ("COBY_SYMBOLS", "symbols", "BTC-USDT,eth", ("BTC-USDT", "eth"), [",", " "]),
    (
        "COBY_CONNECTORS",
        "connectors",
        "own.feeds:Feed, a:B",
        ("own.feeds:Feed", "a:B"),
        ["own.Feed", "a:", ":B", "a-b:C"],
    ),
    ("COBY_SIMULATE", "simulate", "true", True, ["maybe"]),
    ("COBY_DATA_DIR", "data_dir", "/var/lib/coby", Path("/var/lib/coby"), []),
    ("COBY_HOST", "host", "::1", "::1", [" "]),
    ("COBY_PORT", "port", "9000", 9000, ["0", "tcp://10.0.0.1:8765"]),
    ("COBY_LOG_LEVEL", "log_level", "debug", "DEBUG", ["loud"]),
    ("COBY_LOG_FILE", "log_file", "logs/coby.log", Path("logs/coby.log"), []),
    (
        "COBY_PROXIES",
        "proxies",
        "okx=socks5://h:1",
        "okx=socks5://h:1",
        ["ftp://h", "http://", "h:1", "http://h:99999"],
    ),
    ("COBY_ROOT_CERTIFICATES", "root_certificates", CERTIFICATES, Path(CERTIFICATES), ["not/there.pem"]),
    ("COBY_SNAPSHOT_LEVELS", "snapshot_levels", "20", 20, ["0", "10001"]),
]


def test_there_is_a_test_for_every_setting() -> None:
    tested = {setting.partition(".")[0] for _, setting, *_ in VARIABLES}
    assert tested == set(Settings.model_fields)


@pytest.mark.parametrize(("variable", "setting", "text", "value"), [row[:4] for row in VARIABLES])
def test_a_variable_sets_its_setting(variable: str, setting: str, text: str, value: object) -> None:
    settings = load(environ={variable: text})
    report = reported(settings, setting)
    assert (report.variable.replace("<BASE>", setting), report.origin, report.where) == (variable, "env", variable)
    if isinstance(value, str):
        assert report.value == value
    else:
        assert getattr(settings, setting) == value
    others = [r for r in settings.report() if r.name != setting]
    assert {r.origin for r in others} == {"default"}


@pytest.mark.parametrize(("variable", "text"), [(row[0], text) for row in VARIABLES for text in row[4]])
def test_a_wrong_value_is_one_line_with_variable_value_and_what_is_allowed(variable: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(environ={variable: text, "COBY_LOG_FILE": "x"})
    message = str(raised.value)
    assert message.startswith(f'{variable} is "{text}": it must be ')
    assert "\n" not in message
    assert raised.value.context["allowed"]
    assert raised.value.__cause__ is None


def test_an_empty_variable_is_none() -> None:
    assert load(environ={"DB_HOST": "", "DB_PORT": "", "BTC_BUCKET_SIZE": ""}) == load(environ={})


def test_what_wins(tmp_path: Path) -> None:
    Path("coby.toml").write_text(
        'port = 1111\nhost = "file"\nheatmap_depth = 11\nvenues = ["okx", "kraken"]\n'
        "[bucket_sizes]\nbtc = 5\nETH = 2.5\n"
    )
    settings = load(
        {"port": "3333", "config": None, "command": print}, environ={"COBY_PORT": "2222", "COBY_HOST": "env"}
    )
    assert (settings.port, settings.host, settings.heatmap_depth) == (3333, "env", 11)
    assert settings.venues == ("okx", "kraken")
    assert [(r.origin, r.where) for r in (reported(settings, name) for name in ("port", "host", "heatmap_depth"))] == [
        ("flag", "--port"),
        ("env", "COBY_HOST"),
        ("file", "heatmap_depth in coby.toml"),
    ]
    assert load(environ={"BTC_BUCKET_SIZE": "7"}).pipeline_settings()["bucket_sizes"] == [
        {"base": "BTC", "sizes": ["7"]},
        {"base": "ETH", "sizes": ["2.5"]},
    ]
    assert reported(settings, "bucket_sizes.BTC").where == "bucket_sizes.btc in coby.toml"


def test_another_file_by_variable_and_by_flag(tmp_path: Path) -> None:
    Path("a.toml").write_text("port = 1")
    Path("b.toml").write_text("port = 2")
    Path("coby.toml").write_text("port = 3")
    environ = {"COBY_CONFIG": "a.toml"}
    assert load(environ=environ).port == 1
    assert load({"config": "b.toml"}, environ=environ).port == 2
    assert load(environ={}).port == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", 'coby.toml: "prot" is no setting; did you mean port'),
        ("zzzzzz = 1", 'coby.toml: "zzzzzz" is no setting; `coby doctor`'),
        ("port = ", 'the file with settings is "coby.toml": it must be a TOML file'),
        ("port = 0", 'port in coby.toml is "0": it must be a port'),
        ('venues = { a = "b" }', "venues in coby.toml is"),
        ("bucket_sizes = 5", 'bucket_sizes in coby.toml is "5": it must be a decimal'),
        ('[bucket_sizes]\n"A-B" = 5', 'bucket_sizes.A-B in coby.toml is "5"'),
        ("[bucket_sizes]\nSOL = [1, 0]", 'bucket_sizes.SOL in coby.toml is "[1, 0]"'),
        ("[bucket_sizes]\nSOL = true", 'bucket_sizes.SOL in coby.toml is "True"'),
        ('db_password = ["secret!"]', 'db_password in coby.toml is "***"'),
    ],
)
def test_a_wrong_file(text: str, message: str) -> None:
    Path("coby.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        load(environ={})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "environ", "name"),
    [({"config": "no.toml"}, {}, "--config"), ({}, {"COBY_CONFIG": "no.toml"}, "COBY_CONFIG")],
)
def test_a_named_file_must_be_there(flags: dict[str, Any], environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'{name} is "no.toml": it must be a TOML file that can be read')):
        load(flags, environ=environ)


def test_flags_come_from_a_parser() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = [
        "--venues",
        "okx,kraken",
        "--symbols",
        "BTC",
        "--simulate",
        "--data-dir",
        "d",
        "--host",
        "::",
        "--port",
        "1",
    ]
    settings = load(vars(parser.parse_args(given)), environ={})
    assert (settings.venues, settings.symbols, settings.simulate) == (("okx", "kraken"), ("BTC",), True)
    assert (settings.data_dir, settings.host, settings.port) == (Path("d"), "::", 1)
    assert {r.where for r in settings.report() if r.origin == "flag"} == {g for g in given if g.startswith("--")}
    assert load(vars(parser.parse_args([])), environ={}) == load(environ={})
    with pytest.raises(ConfigError, match=re.escape('--port is "x": it must be a port')):
        load(vars(parser.parse_args(["--port", "x"])), environ={})


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "sqlite:///data/catalogue.sqlite"),
        ({"DB_HOST": "db"}, "postgresql://coby@db:5432/coby"),
        (
            {"DB_HOST": "::1", "DB_PORT": "1", "DB_NAME": "a b", "DB_USER": "me@x", "DB_PASSWORD": "p:/@?"},
            "postgresql://me%40x:p%3A%2F%40%3F@[::1]:1/a%20b",
        ),
        ({"DB_HOST": "/run/pg"}, "postgresql://coby@/coby?host=%2Frun%2Fpg&port=5432"),
    ],
)
def test_the_url_of_the_database(environ: dict[str, str], url: str) -> None:
    assert load(environ=environ).get_database_url() == url


def test_the_url_of_redis() -> None:
    assert load(environ={}).get_redis_url() is None
    assert load(environ={"REDIS_HOST": "r"}).get_redis_url() == "redis://r:6379/0"
    assert load(environ={"REDIS_HOST": "r", "REDIS_PASSWORD": "a/b!"}).get_redis_url() == "redis://:a%2Fb%21@r:6379/0"


@pytest.mark.parametrize(
    "symbol", ["BTCUSDT", "btc_usdt", "BTC/USD", "BTC", "BTC-USDC", "BTC-USDT-PERP", "BTC-USDT-261225"]
)
def test_every_spelling_has_its_bucket_size(symbol: str) -> None:
    assert load(environ={}).get_bucket_size(symbol) == 10.0
    assert load(environ={"BTC_BUCKET_SIZE": "25,50"}).get_bucket_size(symbol) == 25.0


@pytest.mark.parametrize("symbol", ["SOLUSDT", "BTC-EUR", "WBTC-USDT", "ETHBTC"])
def test_where_no_size_is_set_the_price_decides(symbol: str) -> None:
    settings = load(environ={})
    with pytest.raises(ConfigError, match="price decides"):
        settings.get_bucket_size(symbol)
    sizes = [settings.get_bucket_size(symbol, price) for price in (60_000, 49_999.99, 50_000, 150, 0.00001)]
    assert sizes == [10.0, 1.0, 10.0, 0.01, 1e-9]


def test_the_core_s_settings() -> None:
    assert load(environ={}).pipeline_settings() == {
        "update_interval_ms": 500,
        "heatmap_depth": 50,
        "snapshot_levels": 50,
        "bucket_sizes": [{"base": "BTC", "sizes": ["10"]}, {"base": "ETH", "sizes": ["1"]}],
    }
    changed = load(
        environ={
            "UPDATE_FREQUENCY": "2.3",
            "HEATMAP_DEPTH": "7",
            "COBY_SNAPSHOT_LEVELS": "3",
            "ADA_BUCKET_SIZE": "0.0010",
        }
    ).pipeline_settings()
    assert changed["bucket_sizes"][0] == {"base": "ADA", "sizes": ["0.001"]}
    assert (changed["update_interval_ms"], changed["heatmap_depth"], changed["snapshot_levels"]) == (2300, 7, 3)


def test_the_core_takes_them(tmp_path: Path) -> None:
    core = pytest.importorskip("coby._core")
    recording = tmp_path / "r.jsonl"
    recording.write_text("")
    settings = load(environ={"SOL_BUCKET_SIZE": "0.1,1"}).pipeline_settings()
    core.Engine.importing("binance_futures", [recording], tmp_path / "tape", settings).stop()
    with pytest.raises(ConfigError):
        core.Engine.importing("binance_futures", [recording], tmp_path / "other", settings | {"heatmap_depth": 0})


def test_proxies() -> None:
    settings = load(environ={"COBY_PROXIES": "http://a:1/?x=y, okx=socks5://u:geheim@b:2"})
    assert settings.proxy_of("okx") == "socks5://u:geheim@b:2"
    assert settings.proxy_of("kraken") == "http://a:1/?x=y"
    assert load(environ={}).proxy_of("okx") is None
    Path("coby.toml").write_text('[proxies]\nokx = "http://c:3"')
    assert load(environ={}).proxy_of("okx") == "http://c:3"


def test_venues_are_named_by_id_or_not_at_all() -> None:
    known = ["binance", "kraken", "okx"]
    assert load(environ={}).chosen_venues(known) == ("binance", "kraken", "okx")
    assert load(environ={"COBY_VENUES": "OKX,okx"}).chosen_venues(known) == ("okx",)
    with pytest.raises(UnknownVenueError, match='COBY_VENUES is "krakn", which is no venue; did you mean kraken'):
        load(environ={"COBY_VENUES": "okx,krakn"}).chosen_venues(known)


def test_secrets_are_shown_nowhere() -> None:
    secrets = ["pa55w0rd", "tops3cret", "pr0xypw"]
    settings = load(
        environ={"DB_PASSWORD": secrets[0], "REDIS_PASSWORD": secrets[1], "COBY_PROXIES": f"http://u:{secrets[2]}@h:1"}
    )
    shown = f"{settings!r} {settings} {settings.report()} {settings.model_dump()} {settings.model_dump_json()}"
    assert not [secret for secret in secrets if secret in shown]
    assert redact(f"cannot log in with {secrets[0]} or {secrets[2]}") == "cannot log in with *** or ***"
    with pytest.raises(ConfigError) as raised:
        load(environ={"COBY_PROXIES": "http://u:geheimnis@h:99999", "DB_PASSWORD": "x"})
    assert "geheimnis" not in str(raised.value) + repr(raised.value.context)


def test_a_misspelt_variable_is_noticed() -> None:
    settings = load(
        environ={"COBY_PRT": "1", "COBY_PORT_8765_TCP": "tcp", "COBY_CONFIG": "", "PORT": "1", "VENUES": "x"}
    )
    assert settings.unknown_variables.keys() == {"COBY_PRT", "COBY_PORT_8765_TCP"}
    assert "COBY_PORT" in settings.unknown_variables["COBY_PRT"]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(environ={}).port = 1


def test_the_module_s_own_settings_are_read_once_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(module), "config", raising=False)
    monkeypatch.setenv("COBY_PORT", "4321")
    first = module.config
    monkeypatch.setenv("COBY_PORT", "1234")
    assert (first.port, module.config is first) == (4321, True)
    monkeypatch.delitem(vars(module), "config")
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def test_a_wrong_environment_breaks_no_import_and_both_names_are_one_object() -> None:
    def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environ
        )

    both = "from COBY.config import config as a; from coby.config import config as b"
    done = run(
        f"{both}; import COBY.config as m, coby.config as n; print(a is b, m is n, a.get_bucket_size('BTCUSDT'))",
        BTC_BUCKET_SIZE="20",
    )
    assert done.stdout == "True True 20.0\n", done.stderr
    assert run("import coby.config", DB_PORT="x").returncode == 0
    assert 'DB_PORT is "x": it must be a port' in run("from coby.config import config", DB_PORT="x").stderr
