"""Every setting of the program: one nested tree, read once at start and passed down as plain values.

From weakest to strongest: the defaults, a profile (`profiles/NAME/profile.toml`), environment variables
(`PFITRE_TILED__PORT=8020`), and what the command line says. Unknown keys are refused wherever they stand.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pfitre_service.errors import SettingsError
from pfitre_service.ingest.rules import DocumentRules
from pfitre_service.preprocess.parameters import PreprocessParameters
from pfitre_service.prior.parameters import TvParameters
from pfitre_service.recon.parameters import AdmmParameters, CalibrationParameters
from pfitre_service.store.parameters import TiledParameters

ENV_PREFIX = "PFITRE_"
PROFILE_FILE = "profile.toml"
_UNKNOWN = dict.fromkeys(
    ("extra_forbidden", "unexpected_keyword_argument"),
    "there is no such setting; docs/reference/settings.md lists them all",
)


class Branch(BaseModel):
    """A part of the tree: frozen, documented field by field, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SourceSettings(Branch):
    """Where documents come from."""

    kind: Literal["zmq", "kafka", "tiled"] = "zmq"
    """A 0MQ proxy; the topics of Kafka that bluesky-kafka writes (needs the extra `kafka`); or a Tiled catalogue that
    bluesky-tiled-plugins writes, with a small `batch_size` (needs the extra `databroker`)."""
    address: str = "127.0.0.1:5568"
    """host:port of a 0MQ proxy's subscribers' side; of Kafka's brokers, several with commas; http://host:port of Tiled,
    or the address of a container in it."""
    prefix: str = ""
    """Prefix of the publishers to listen to; empty listens to all."""
    max_message_mib: int = Field(default=256, ge=1, le=4000)
    """Longer messages are refused unread."""
    kafka_topics: tuple[str, ...] = ()
    """Topics of Kafka; one that begins with `^` is a pattern."""
    kafka_group: str = "pfitre"
    """Name under which Kafka keeps how far was read: a service that starts again goes on there."""
    kafka_options: dict[str, str] = {}
    """Further settings of Kafka's client (librdkafka), such as `"security.protocol" = "SASL_SSL"`."""


class ProxySettings(Branch):
    """The 0MQ proxy between RunEngines and whoever listens to them, which the process `receive` is as well."""

    enabled: bool = True
    """Whether `receive` is a proxy; turn off where the beamline runs one: it then listens at `source.address`."""
    publish: str = "127.0.0.1:5567"
    """host:port that RunEngines publish to."""
    subscribe: str = "127.0.0.1:5568"
    """host:port that subscribers connect to."""


class SpoolSettings(Branch):
    """Where 0MQ messages are kept from the moment they are heard until all that came of them is stored:
    `data_dir/spool`."""

    sync_ms: int = Field(default=20, ge=1)
    """So often, while messages come, they are synced to the disk: what a power cut may take. A process that is killed
    loses nothing that is in the spool."""
    gib: float = Field(default=20.0, gt=0.0)
    """The spool grows to this, or to half of what the disk has left, if that is less. Full, it takes nothing more:
    publishers have to wait. Half full, it keeps open runs no longer, which the catalogue keeps as well."""


class LogSettings(Branch):
    """What the processes say on standard error; how much is `--log-level`."""

    format: Literal["text", "json"] = "text"
    """`text` for people; `json`: an object a line, for collectors of logs."""


class PriorSettings(Branch):
    """What fills in the missing wedge."""

    name: str = "auto"
    """`none`: physics alone; `tv`: total variation; a name that `pfitre weights list` shows: that network; `auto`:
    the package's network, watched by held-out projections, or total variation where none are held out."""
    weights_dir: Path | None = None
    """Folder of weights that were trained or imported here; by default `pfitre/weights` in the user's data folder."""
    tv: TvParameters = TvParameters()
    """Total variation."""


class WorkerSettings(Branch):
    """How the worker spends its time."""

    device: str = "auto"
    """Torch device, such as cpu or cuda:0; `auto` takes a GPU where there is one."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the solver; 0 leaves one core to the rest of the service. Threads that must wait for a busy core
    cost far more than they bring."""
    publish_interval_s: float = Field(default=2.0, ge=0.0)
    """The volume is published this often at most while it changes."""
    poll_interval_s: float = Field(default=0.2, gt=0.0)
    """How often the catalogue is asked for new frames while there is nothing to compute."""
    heldout_every: Literal[0] | Annotated[int, Field(ge=2)] = 8
    """Every n-th projection is held out to measure the error; 0 holds none out."""
    batch_frames: int = Field(default=32, ge=1)
    """Frames read from the catalogue at a time."""


class EpicsSettings(Branch):
    """Slices and status as EPICS process variables over PV Access, for ImageJ and Phoebus (needs the extra `pva`)."""

    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_:.-]{0,49})?$")
    """Beginning of their names, such as `XF18:pfitre:`; empty: there are none."""
    interfaces: tuple[str, ...] = Field(default=("127.0.0.1",), min_length=1)
    """Addresses of this machine to listen on. Anything but loopback opens them, unencrypted, to the network."""
    port: int = Field(default=5075, ge=0, le=65535)
    """TCP port; where it is taken, another one, which clients find by search. 0 takes a free one."""
    search_port: int = Field(default=5076, ge=0, le=65535)
    """UDP port on which clients search."""
    poll_interval_s: float = Field(default=0.5, gt=0.0)
    """How often the catalogue is asked for a new revision: one small request. Slices are read when there is one."""


class HealthSettings(Branch):
    """host:port on which each process answers `GET /health`."""

    supervisor: str = "127.0.0.1:8020"
    """The supervisor: everything in one answer."""
    tiled: str = "127.0.0.1:8021"
    """The catalogue's process."""
    receive: str = "127.0.0.1:8022"
    """The process that hears documents and keeps them."""
    ingest: str = "127.0.0.1:8023"
    """Documents in."""
    worker: str = "127.0.0.1:8024"
    """The solver."""
    epics: str = "127.0.0.1:8025"
    """The process variables, where `epics.prefix` asks for them."""


class Settings(Branch):
    """The whole tree."""

    data_dir: Path = Path("pfitre-data")
    """Folder of everything that is kept: catalogue, arrays, spool, key."""
    api_key_file: Path | None = None
    """File that holds the catalogue's key; by default one is made in `data_dir` at the first start."""
    profile_name: str = "default"
    """Name of the profile in use; it is written beside every tomogram."""
    documents: DocumentRules = DocumentRules()
    """Which documents make a tomogram."""
    source: SourceSettings = SourceSettings()
    """Where documents come from."""
    proxy: ProxySettings = ProxySettings()
    """The 0MQ proxy."""
    spool: SpoolSettings = SpoolSettings()
    """Messages on the disk."""
    tiled: TiledParameters = TiledParameters()
    """The catalogue."""
    preprocess: PreprocessParameters = PreprocessParameters()
    """From counts to line integrals."""
    calibration: CalibrationParameters = CalibrationParameters()
    """Rotation axis and drift, found while the scan runs."""
    recon: AdmmParameters = AdmmParameters()
    """The solver."""
    prior: PriorSettings = PriorSettings()
    """The prior."""
    worker: WorkerSettings = WorkerSettings()
    """The worker process."""
    log: LogSettings = LogSettings()
    """Logs of the processes."""
    epics: EpicsSettings = EpicsSettings()
    """Process variables."""
    health: HealthSettings = HealthSettings()
    """Health endpoints."""


def load_settings(profile: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings from a profile, the environment, and `overrides`, later ones stronger.

    Parameters
    ----------
    profile
        A profile's folder, or its TOML file; None for none.
    overrides
        Nested mapping of settings, as the command line gives them.

    Returns
    -------
    Settings
        The whole tree, checked.

    Raises
    ------
    SettingsError
        A key is unknown or a value is not allowed; names every key at fault.
    """
    tree = load_profile(profile) if profile is not None else {}
    tree = merged(merged(tree, environment_tree(os.environ)), overrides or {})
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error, profile)) from error


def load_profile(path: Path) -> dict[str, Any]:
    """A profile as a nested mapping.

    Parameters
    ----------
    path
        The profile's folder, which holds `profile.toml`, or the file itself.

    Returns
    -------
    dict[str, Any]
        What the file says, with `profile_name` after folder or file where it does not say it.

    Raises
    ------
    SettingsError
        There is no such file, or it is no TOML.
    """
    file = path / PROFILE_FILE if path.is_dir() else path
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"no profile at {path}: expected a folder with {PROFILE_FILE}, or a TOML file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the profile {file}: {error}") from error
    tree.setdefault("profile_name", file.parent.name if path.is_dir() else file.stem)
    return tree


def setting_paths(model: type[BaseModel] = Settings) -> set[str]:
    """Every leaf of the tree as a dotted path, such as `tiled.port`.

    Parameters
    ----------
    model
        Tree to look at.

    Returns
    -------
    set[str]
        Dotted paths.
    """
    schema = model.model_json_schema()
    return set(_leaves(schema, schema.get("$defs", {})))


def _leaves(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    if "$ref" in node:
        return _leaves(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    if "properties" not in node:
        return [""]
    return [
        f"{name}.{rest}".rstrip(".")
        for name, child in node["properties"].items()
        for rest in _leaves(child, definitions)
    ]


def environment_tree(environment: Mapping[str, str]) -> dict[str, Any]:
    """The `PFITRE_` variables as a nested mapping; lists are written as JSON.

    Parameters
    ----------
    environment
        Variables by name; those without the prefix are passed over.

    Returns
    -------
    dict[str, Any]
        Nested mapping of settings.

    Raises
    ------
    SettingsError
        A variable with the prefix names no setting.
    """
    known = {ENV_PREFIX + path.replace(".", "__").upper(): path for path in setting_paths()}
    tree: dict[str, Any] = {}
    for key in sorted(key for key in environment if key.startswith(ENV_PREFIX)):
        if key not in known:
            raise SettingsError(
                f"unknown setting in the environment: {key}; keys read {ENV_PREFIX}SECTION__NAME in capitals, "
                f"for example {ENV_PREFIX}TILED__PORT"
            )
        *sections, name = known[key].split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = _environment_value(key, environment[key])
    return tree


def _environment_value(key: str, text: str) -> Any:
    if not text.startswith("["):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f'{key} must be a JSON list such as ["primary"]; got {text!r}: {error}') from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; `over` wins.

    Parameters
    ----------
    base
        Nested mapping.
    over
        Nested mapping whose values count where both have one.

    Returns
    -------
    dict[str, Any]
        A new nested mapping.
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _explain(error: ValidationError, profile: Path | None) -> str:
    where = f"settings (profile {profile}, environment, command line)" if profile else "settings"
    faults = "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'tree'}: {_UNKNOWN.get(fault['type'], fault['msg'])}"
        for fault in error.errors()
    )
    return f"unusable {where}: {faults}"
