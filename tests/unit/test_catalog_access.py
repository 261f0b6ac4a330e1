from __future__ import annotations

import stat

import pytest

from pfitre_service.catalog_access import api_key, catalog_url, read_key
from pfitre_service.config import Settings
from pfitre_service.errors import SettingsError, StoreError
from pfitre_service.store.parameters import TiledParameters


@pytest.mark.parametrize(
    ("tiled", "url"),
    [
        ({}, "http://127.0.0.1:8010"),
        ({"host": "0.0.0.0", "port": 8123}, "http://127.0.0.1:8123"),
        ({"host": "::"}, "http://[::1]:8010"),
        ({"host": "fe80::1"}, "http://[fe80::1]:8010"),
        ({"uri": "https://tiled.example.org"}, "https://tiled.example.org"),
    ],
)
def test_processes_find_the_catalogue_where_the_settings_put_it(tiled, url):
    assert catalog_url(Settings(tiled=TiledParameters(**tiled))) == url


def test_the_data_folder_s_key_is_made_once_and_kept_to_its_owner(tmp_path):
    settings = Settings(data_dir=tmp_path)
    key = api_key(settings)
    assert len(key) == 64
    assert api_key(settings) == key
    assert stat.S_IMODE((tmp_path / "api_key").stat().st_mode) == 0o600


def test_a_key_file_is_read_and_its_line_end_left_out(tmp_path):
    (tmp_path / "key").write_text("abc123\n")
    assert api_key(Settings(data_dir=tmp_path / "unused", api_key_file=tmp_path / "key")) == "abc123"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"\xff\xfe", "schlüssel".encode()])
def test_a_key_file_that_holds_no_key_is_refused_without_showing_it(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError, match="key") as refused:
        read_key(tmp_path / "key")
    assert "two words" not in str(refused.value)


def test_a_key_that_cannot_be_read_or_made_is_explained(tmp_path):
    with pytest.raises(SettingsError, match="cannot read the API key from api_key_file"):
        api_key(Settings(api_key_file=tmp_path / "missing"))
    with pytest.raises(StoreError, match="/proc/pfitre"):
        api_key(Settings(data_dir="/proc/pfitre"))
