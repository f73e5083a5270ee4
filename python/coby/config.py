"""Settings: from the environment, a file and flags; each is checked and remembers where it came from.

Flags win over the environment, the environment over the file (`coby.toml`), the file over defaults. Only this module
reads the environment. `config` is what environment and file say, read when it is first asked for:

    from coby.config import config
    config.get_bucket_size("BTCUSDT")
"""

import argparse
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import quote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from coby.utils.exceptions import ConfigError
from coby.utils.redaction import MASK, printable, redact, register_secrets
from coby.utils.validation import DOLLARS, known_venue, nearest, plain_decimal, positive_decimal, symbol_key

__all__ = ["ALL_VENUES", "DEFAULT_FILE", "Origin", "SettingReport", "Settings", "add_flags", "config", "load"]

Origin = Literal["default", "file", "env", "flag"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

DEFAULT_FILE = "coby.toml"
"""The file that is read if it is there; `--config` or `COBY_CONFIG` name another one, which must be there."""
ALL_VENUES = "all"
"""The key of the proxy for venues that have none of their own."""

_EXTERNAL = "external"
"""The venue that connectors feed."""
_FILE_VARIABLE = "COBY_CONFIG"
_BUCKETS = "bucket_sizes"
_BUCKET_VARIABLE = re.compile(r"(?P<base>[A-Z0-9]{1,20})_BUCKET_SIZE", re.ASCII)
_BASE = re.compile(r"[A-Z0-9]{1,20}", re.ASCII)
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")

_DEFAULT_SIZES: dict[str, tuple[Decimal, ...]] = {"BTC": (Decimal(10),), "ETH": (Decimal(1),)}

_Name = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]
_Port = Annotated[int, Field(ge=1, le=65_535)]
_Rows = Annotated[int, Field(ge=1, le=10_000)]
_Many = Annotated[int, Field(ge=1, le=10_000_000)]
_PORT = "a port from 1 to 65535"
_ROWS = "a whole number from 1 to 10000"
_MANY = "a whole number from 1 to 10000000"
_SIZES = "a decimal number above 0, like 10 or 0.5; several have commas between them"
_URLS = "URL or venue=URL, with commas between several; URLs begin with http://, https:// or socks5://"


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a setting is called outside, and what is allowed, in words that end "it must be ..."."""

    variable: str
    allowed: str
    flag: str | None = None


@dataclass(frozen=True, slots=True)
class SettingReport:
    """One effective setting, for people: `coby doctor` shows these."""

    name: str
    """In `coby.toml`."""
    variable: str
    """In the environment."""
    value: str
    """Secrets are masked."""
    origin: Origin
    """Where the value comes from."""
    where: str
    """The variable, flag or file that says so; empty for a default."""
    doc: str
    """What it is for."""


class Settings(BaseSettings):
    """Every setting of COBY; made by `load`, changed by nothing."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    venues: Annotated[tuple[_Name, ...], _Setting("COBY_VENUES", "venue ids with commas between them", "--venues")] = ()
    """Venues to connect to; none named: all that can be connected to."""
    symbols: Annotated[
        tuple[_Name, ...],
        Field(min_length=1),
        _Setting("COBY_SYMBOLS", "symbols with commas between them", "--symbols"),
    ] = ("BTC", "ETH")
    """Symbols in any spelling; a bare base asset means, per venue, the first of its USDT, USDC and USD spot pairs."""
    connectors: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")], ...],
        _Setting("COBY_CONNECTORS", "module:Class with commas between several"),
    ] = ()
    """Connectors of your own, each a class of a Python module; they run beside the venues."""
    simulate: Annotated[bool, _Setting("COBY_SIMULATE", "true or false", "--simulate")] = False
    """Connect to simulated exchanges on this machine instead of the real ones."""
    data_dir: Annotated[Path, _Setting("COBY_DATA_DIR", "a directory", "--data-dir")] = Path("data")
    """Where tape and tables go."""
    host: Annotated[_Name, _Setting("COBY_HOST", "a host name or address", "--host")] = "127.0.0.1"
    """Address that the HTTP server listens at."""
    port: Annotated[_Port, _Setting("COBY_PORT", _PORT, "--port")] = 8765
    """Port that the HTTP server listens at."""
    log_level: Annotated[LogLevel, _Setting("COBY_LOG_LEVEL", f"one of {', '.join(get_args(LogLevel))}")] = "INFO"
    """The least level that is logged."""
    log_file: Annotated[Path | None, _Setting("COBY_LOG_FILE", "the path of a file")] = None
    """Where JSON log lines go; not set: to no file."""
    proxies: Annotated[dict[_Name, SecretStr], _Setting("COBY_PROXIES", _URLS)] = Field(default_factory=dict)
    """Proxies by venue; `all` is for venues without one of their own."""
    root_certificates: Annotated[Path | None, _Setting("COBY_ROOT_CERTIFICATES", "a PEM file that is there")] = None
    """Root certificates to trust besides the usual ones."""
    snapshot_levels: Annotated[_Rows, _Setting("COBY_SNAPSHOT_LEVELS", _ROWS)] = 50
    """Levels a side of stored book snapshots."""

    heatmap_depth: Annotated[_Rows, _Setting("HEATMAP_DEPTH", _ROWS)] = 50
    """Rows a side of heatmap columns and price buckets."""
    update_frequency: Annotated[
        float, Field(ge=0.1, le=3600), _Setting("UPDATE_FREQUENCY", "a multiple of 0.1 from 0.1 to 3600, in seconds")
    ] = 0.5
    """Seconds between two heatmap columns and book snapshots."""
    bucket_sizes: Annotated[dict[str, tuple[Decimal, ...]], _Setting("<BASE>_BUCKET_SIZE", _SIZES)] = Field(
        default_factory=lambda: dict(_DEFAULT_SIZES)
    )
    """Bucket sizes by base asset, for quotes in dollars and their stablecoins. Other books get one by their price."""
    data_buffer_size: Annotated[_Many, _Setting("DATA_BUFFER_SIZE", _MANY)] = 10_000
    """Frames of a connection that may wait for the engine before its socket is no longer read."""
    batch_write_size: Annotated[_Many, _Setting("BATCH_WRITE_SIZE", _MANY)] = 1000
    """Rows that wait before a store commits them, if its interval has not passed before."""
    max_memory_usage: Annotated[
        int, Field(ge=64, le=16_777_216), _Setting("MAX_MEMORY_USAGE", "a whole number from 64 to 16777216, in MiB")
    ] = 2048
    """Memory in MiB that the process should stay below."""

    db_host: Annotated[_Name | None, _Setting("DB_HOST", "a host name or address, or a directory of sockets")] = None
    """PostgreSQL server; not set: the embedded store is used."""
    db_port: Annotated[_Port, _Setting("DB_PORT", _PORT)] = 5432
    """Its port."""
    db_name: Annotated[_Name, _Setting("DB_NAME", "the name of a database")] = "coby"
    """Its database."""
    db_user: Annotated[_Name, _Setting("DB_USER", "the name of a user")] = "coby"
    """Its user."""
    db_password: Annotated[SecretStr | None, _Setting("DB_PASSWORD", "a password")] = None
    """That user's password."""
    redis_host: Annotated[_Name | None, _Setting("REDIS_HOST", "a host name or address")] = None
    """Redis server; not set: none is used."""
    redis_port: Annotated[_Port, _Setting("REDIS_PORT", _PORT)] = 6379
    """Its port."""
    redis_password: Annotated[SecretStr | None, _Setting("REDIS_PASSWORD", "a password")] = None
    """Its password."""

    _sources: dict[str, tuple[Origin, str]] = PrivateAttr(default_factory=dict)
    _unknown: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    @field_validator("venues", "symbols", "connectors", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        items = given.split(",") if isinstance(given, str) else given
        if not isinstance(items, Sequence):
            return given
        stripped = [item.strip() if isinstance(item, str) else item for item in items]
        return tuple(dict.fromkeys(item for item in stripped if item != ""))

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, given: object) -> object:
        return given.upper() if isinstance(given, str) else given

    @field_validator("update_frequency")
    @classmethod
    def _on_the_grid(cls, seconds: float) -> float:
        if Decimal(repr(seconds)) * 10 % 1:
            raise ValueError("off the grid of 100 ms")
        return seconds

    @field_validator("bucket_sizes", mode="before")
    @classmethod
    def _read_sizes(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        return {str(base).upper(): _sizes(str(base).upper(), given[base]) for base in sorted(given, key=str)}

    @field_validator("proxies", mode="before")
    @classmethod
    def _read_proxies(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        named = {}
        for item in given.split(","):
            venue, equals, url = item.partition("=")
            if not equals or "://" in venue:
                venue, url = ALL_VENUES, item
            named[venue.strip()] = url.strip()
        return named

    @field_validator("proxies")
    @classmethod
    def _are_proxies(cls, proxies: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for proxy in proxies.values():
            parts = urlsplit(proxy.get_secret_value())
            # Reading the port checks it.
            if parts.scheme not in _PROXY_SCHEMES or not parts.hostname or parts.port == 0:
                raise ValueError("no URL of a proxy")
        return proxies

    @field_validator("root_certificates")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("no file")
        return path

    @classmethod
    def of(cls, layers: Sequence["_Layer"], unknown: Mapping[str, list[str]]) -> Self:
        """The settings that layers say together; the first layer wins."""
        # Named sizes come beside the default ones, not in their place.
        said = [*(layer.values for layer in layers), {_BUCKETS: dict(_DEFAULT_SIZES)}]
        sources: dict[str, Any] = {"_build_sources": (tuple(_Source(cls, values) for values in said), {})}
        settings = cls(**sources)
        for layer in reversed(layers):
            settings._sources |= {name: (layer.origin, where) for name, where in layer.names.items()}
        settings._unknown |= unknown
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only `load` reads the environment; `Settings(port=1)` is defaults and what is given."""
        return (init_settings,)

    def get_database_url(self) -> str:
        """The URL of the PostgreSQL server, password included; without `DB_HOST` that of the embedded catalogue."""
        if self.db_host is None:
            return f"sqlite:///{(self.data_dir / 'catalogue.sqlite').as_posix()}"
        user = _user_info(self.db_user, self.db_password)
        if self.db_host.startswith("/"):
            return f"postgresql://{user}@/{quote(self.db_name, '')}?host={quote(self.db_host, '')}&port={self.db_port}"
        return f"postgresql://{user}@{_host(self.db_host)}:{self.db_port}/{quote(self.db_name, '')}"

    def get_redis_url(self) -> str | None:
        """The URL of the Redis server, password included; None without `REDIS_HOST`."""
        if self.redis_host is None:
            return None
        user = f"{_user_info('', self.redis_password)}@" if self.redis_password else ""
        return f"redis://{user}{_host(self.redis_host)}:{self.redis_port}/0"

    def get_bucket_size(self, symbol: str, price: float | None = None) -> float:
        """The bucket size of a symbol, in quote units: `get_bucket_size("BTCUSDT")` is 10 by default.

        Args:
            symbol: In any spelling; a bare base asset will do.
            price: About what it costs. It decides where no size is configured, by the rule that the core has: the
                greatest power of ten that is at most a 5000th of it.

        Raises:
            ConfigError: No size is configured, and no price is given.
        """
        key = symbol_key(symbol)
        # A pair comes before a base asset that is spelled like one, as in the core.
        pairs = dict(self.bucket_sizes)
        pairs |= {base + quote: sizes for base, sizes in self.bucket_sizes.items() for quote in DOLLARS}
        # Perpetuals and futures have the size of their pair.
        pair = key if key in pairs else symbol_key("".join(symbol.strip().split("-")[:2]))
        if pair in pairs:
            return float(pairs[pair][0])
        if price is None:
            raise ConfigError(
                f"no bucket size is set for {symbol}, so its price decides; give a price, or set <BASE>_BUCKET_SIZE",
                "config.bucket_size",
                {"symbol": symbol},
            )
        if not 0 < price < float("inf"):
            raise ConfigError(f"price is {price}: it must be above 0", context={"symbol": symbol})
        return float(Decimal(1).scaleb((Decimal(repr(float(price))) / 5000).adjusted()))

    def pipeline_settings(self) -> dict[str, Any]:
        """What `coby._core` takes as settings: all that may influence a row besides frames."""
        return {
            "update_interval_ms": round(self.update_frequency * 1000),
            "heatmap_depth": self.heatmap_depth,
            "snapshot_levels": self.snapshot_levels,
            "bucket_sizes": [
                {"base": base, "sizes": [plain_decimal(size) for size in sizes]}
                for base, sizes in self.bucket_sizes.items()
            ],
        }

    def proxy_of(self, venue: str) -> str | None:
        """The URL of the proxy for a venue, password included; None for a direct connection."""
        proxy = self.proxies.get(venue) or self.proxies.get(ALL_VENUES)
        return proxy.get_secret_value() if proxy else None

    def chosen_venues(self, known: Collection[str]) -> tuple[str, ...]:
        """`venues`, or all that are `known` if none is named.

        Raises:
            ConfigError: One is the venue that connectors feed, and it is not known.
            UnknownVenueError: One is not known; the message names the setting and the nearest matches.
        """
        name = self._sources.get("venues", ("default", ""))[1] or "venues"
        if _EXTERNAL not in known and _EXTERNAL in map(str.lower, self.venues):
            raise ConfigError(
                f'{name} names "{_EXTERNAL}": nobody can connect to it; name its connectors in COBY_CONNECTORS instead',
                context={"setting": "venues", "value": _EXTERNAL},
            )
        return tuple(dict.fromkeys(known_venue(venue, known, name) for venue in self.venues)) or tuple(known)

    @property
    def unknown_variables(self) -> dict[str, list[str]]:
        """Variables that begin with `COBY_` and are no setting, with the settings that are spelled like them."""
        return dict(self._unknown)

    def report(self) -> list[SettingReport]:
        """All settings with their values and where these come from; one entry for each bucket size."""
        reports = []
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            doc = info.description or ""
            if name == _BUCKETS:
                for base, sizes in value.items():
                    text = ", ".join(map(plain_decimal, sizes))
                    origin, where = self._sources.get(f"{name}.{base}", ("default", ""))
                    reports.append(SettingReport(f"{name}.{base}", f"{base}_BUCKET_SIZE", text, origin, where, doc))
                continue
            origin, where = self._sources.get(name, ("default", ""))
            reports.append(SettingReport(name, _outside(info).variable, _shown(value), origin, where, doc))
        return reports


config: Settings
"""What environment and file of this process say. Read at its first use, so that a wrong setting breaks no import."""


def prefer_system_allocator() -> None:
    """Has Arrow use the system's allocator, for its own keeps what was freed; to be said before Arrow is loaded."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def __getattr__(name: str) -> Settings:
    if name != "config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = loaded = load()
    return loaded


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Gives a parser the flags of the settings that have one, and `--config`; `load(vars(parsed))` takes them."""
    for name, info in Settings.model_fields.items():
        setting = _outside(info)
        if setting.flag is None:
            continue
        if info.annotation is bool:
            parser.add_argument(
                setting.flag, dest=name, action="store_true", default=argparse.SUPPRESS, help=info.description
            )
        else:
            parser.add_argument(setting.flag, dest=name, default=argparse.SUPPRESS, help=info.description)
    parser.add_argument("--config", default=argparse.SUPPRESS, help=f"file with settings (default: {DEFAULT_FILE})")


def load(flags: Mapping[str, object] | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads and checks all settings.

    Args:
        flags: Values by setting, and `config`; what is None or no setting is left out: `vars` of parsed arguments do.
        environ: The environment; by default that of the process.

    Raises:
        ConfigError: A value is not allowed, or the file cannot be read. One line that names the setting as it was
            written, its value and what is allowed; secrets are masked.
    """
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    environ = {name: value for name, value in (os.environ if environ is None else environ).items() if value}
    layers = [_flag_layer(flags), _environment_layer(environ), _file_layer(flags, environ)]
    try:
        settings = Settings.of(layers, _unknown_variables(environ))
    except ValidationError as error:
        # Without its cause: that one quotes values, and a value may be a secret.
        raise _refused(error, layers) from None
    register_secrets(_secrets_of(settings))
    return settings


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one origin says. `names` are its settings, bucket sizes singly, with what they are called there."""

    origin: Origin
    values: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


class _Source(PydanticBaseSettingsSource):
    """Hands a layer to pydantic-settings, which merges them."""

    def __init__(self, settings: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._values)


def _flag_layer(flags: Mapping[str, object]) -> _Layer:
    layer = _Layer("flag")
    for name, info in Settings.model_fields.items():
        if name in flags:
            layer.values[name] = flags[name]
            layer.names[name] = _outside(info).flag or name
    return layer


def _environment_layer(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer("env")
    for name, info in Settings.model_fields.items():
        variable = _outside(info).variable
        if variable in environ:
            layer.values[name] = environ[variable]
            layer.names[name] = variable
    for variable, value in environ.items():
        if match := _BUCKET_VARIABLE.fullmatch(variable):
            layer.values.setdefault(_BUCKETS, {})[match["base"]] = value
            layer.names[f"{_BUCKETS}.{match['base']}"] = variable
    return layer


def _file_layer(flags: Mapping[str, object], environ: Mapping[str, str]) -> _Layer:
    named = flags.get("config") or environ.get(_FILE_VARIABLE)
    path = Path(str(named or DEFAULT_FILE))
    layer = _Layer("file")
    if named is None and not path.is_file():
        return layer
    try:
        layer.values.update(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        name = "--config" if flags.get("config") else _FILE_VARIABLE if named else "the file with settings"
        what = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f'{name} is "{path}": it must be a TOML file that can be read ({what})', context={"path": str(path)}
        ) from error
    for name, value in list(layer.values.items()):
        if name not in Settings.model_fields:
            near = nearest(name, Settings.model_fields)
            hint = f"did you mean {' or '.join(near)}?" if near else "`coby doctor` lists the settings"
            raise ConfigError(f'{path}: "{name}" is no setting; {hint}', context={"path": str(path), "setting": name})
        if name == _BUCKETS and isinstance(value, dict):
            layer.values[name] = {base.upper(): sizes for base, sizes in value.items()}
            layer.names.update({f"{name}.{base.upper()}": f"{name}.{base} in {path}" for base in value})
        else:
            layer.names[name] = f"{name} in {path}"
    return layer


def _refused(error: ValidationError, layers: Sequence[_Layer]) -> ConfigError:
    """The first refused value as one line."""
    problem = error.errors(include_url=False, include_input=False)[0]
    name = str(problem["loc"][0])
    value: object = None
    key = name
    for layer in layers:
        if name not in layer.values:
            continue
        value = layer.values[name]
        if name == _BUCKETS and isinstance(value, dict):
            wrong = [base for base in value if not _are_sizes(base, value[base])]
            if not wrong:
                continue
            key, value = f"{name}.{wrong[0]}", value[wrong[0]]
        where = layer.names.get(key, key)
        break
    else:
        where = name
    setting = _outside(Settings.model_fields[name])
    shown = MASK if "password" in name else printable(redact(str(value)))
    return ConfigError(
        f'{where} is "{shown}": it must be {setting.allowed}',
        context={"setting": key, "where": where, "value": shown, "allowed": setting.allowed},
    )


def _sizes(base: str, given: object) -> tuple[Decimal, ...]:
    """One bucket size or several, from text, a number or a list; the first is the one that views begin with."""
    items = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    # A float becomes its shortest text, which is what the file says.
    sizes = tuple(positive_decimal(str(item), "bucket size") for item in items)
    if not sizes or not _BASE.fullmatch(base):
        raise ValueError("no bucket size of an asset")
    return tuple(dict.fromkeys(sizes))


def _are_sizes(base: str, given: object) -> bool:
    try:
        return bool(_sizes(base, given))
    except ValueError:
        return False


def _outside(info: FieldInfo) -> _Setting:
    return next(item for item in info.metadata if isinstance(item, _Setting))


def _shown(value: object) -> str:
    if value is None or value in ((), {}):
        return "not set"
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={redact(url.get_secret_value())}" for name, url in value.items())
    return str(value).lower() if isinstance(value, bool) else redact(str(value))


def _unknown_variables(environ: Mapping[str, str]) -> dict[str, list[str]]:
    known = {_outside(info).variable for info in Settings.model_fields.values()} | {_FILE_VARIABLE}
    known = {variable for variable in known if variable.startswith("COBY_")}
    strange = [name for name in environ if name.startswith("COBY_") and name not in known]
    return {name: nearest(name, known) for name in sorted(strange) if not _BUCKET_VARIABLE.fullmatch(name)}


def _secrets_of(settings: Settings) -> list[str]:
    texts = [secret.get_secret_value() for secret in (settings.db_password, settings.redis_password) if secret]
    for proxy in settings.proxies.values():
        password = urlsplit(proxy.get_secret_value()).password
        texts += [password] if password else []
    return [form for text in texts for form in (text, quote(text, ""))]


def _user_info(user: str, password: SecretStr | None) -> str:
    return quote(user, "") + (f":{quote(password.get_secret_value(), '')}" if password else "")


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
