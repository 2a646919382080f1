"""What Airflow learns about the provider is what it needs, and is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module, resources
from typing import Any

import jsonschema
import pytest

from airflow_dicomweb.dicomweb.habits import SERVERS
from airflow_dicomweb.extras import EXTRAS
from airflow_dicomweb.provider_info import get_provider_info
from airflow_dicomweb.settings import _AUTH_KINDS

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]


def resolve(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_it_is_valid_by_airflows_schema():
    schema = json.loads(resources.files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_the_modules_that_it_lists_exist(kind):
    (listed,) = INFO[kind]
    for module in listed["python-modules"]:
        import_module(module)
    assert listed["integration-name"] in {each["integration-name"] for each in INFO["integrations"]}


def test_the_classes_that_it_lists_exist():
    (assets,) = INFO["asset-uris"]
    for path in (CONNECTION["hook-class-name"], *INFO["extra-links"], assets["handler"], assets["factory"]):
        assert callable(resolve(path))


def test_the_hook_carries_what_airflow_asks_of_a_hook_of_this_connection_type():
    hook = resolve(CONNECTION["hook-class-name"])
    assert hook.conn_type == CONNECTION["connection-type"]
    assert hook.hook_name == CONNECTION["hook-name"]
    assert hook.default_conn_name == "dicomweb_default"
    assert hook(**{hook.conn_name_attr: "other"}).dicomweb_conn_id == "other"


def test_fields_that_hold_secrets_are_marked_as_passwords():
    secret = {name for name, each in CONNECTION["conn-fields"].items() if each["schema"].get("format") == "password"}
    assert secret == {"keyfile_dict", "credential_config_file"}


def test_the_form_offers_the_kinds_of_authentication_that_are_read():
    assert CONNECTION["conn-fields"]["auth"]["schema"]["enum"] == [*_AUTH_KINDS, None]


def test_the_form_offers_the_servers_of_the_table_and_the_fields_that_are_read():
    assert CONNECTION["conn-fields"]["server"]["schema"]["enum"] == [*SERVERS, None]
    assert sorted(CONNECTION["conn-fields"]) == sorted(EXTRAS)


def test_airflow_itself_lists_the_provider():
    command = [sys.executable, "-m", "airflow", "providers", "get", "airflow-dicomweb", "--full", "--output", "json"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, env=os.environ)
    assert json.loads(ran.stdout)[0]["package-name"] == "airflow-dicomweb"


def test_importing_what_dag_files_import_loads_no_client_library():
    """Measured against what Airflow loads by itself."""
    script = """
import sys
import airflow.sdk, airflow.triggers.base
before = set(sys.modules)
import airflow_dicomweb.hooks, airflow_dicomweb.links, airflow_dicomweb.operators
import airflow_dicomweb.sensors, airflow_dicomweb.triggers, airflow_dicomweb.assets
heavy = {"requests", "google", "pydicom", "sqlite3", "starlette", "numpy", "PIL"}
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in heavy))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert ran.stdout.strip() == "[]"
