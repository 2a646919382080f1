"""Datasets and DICOM stores.

Source: Cloud Healthcare API v1 discovery document, ``projects.locations.datasets`` and ``datasets.dicomStores``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from typing import Any

from airflow_dicomweb.emulator.instances import Instances
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.healthcare.names import DicomStoreName

_NO_ACCESS = "is not there, or the caller has no access to it."


class Stores:
    """The tables of datasets and stores.

    :param instances: What the stores hold.
    """

    def __init__(self, instances: Instances) -> None:
        self._instances, self._database = instances, instances.database
        self._rows: dict[str, int] = {}
        self._rows_lock = threading.Lock()

    def row(self, store: str) -> int:
        """Give the row number of a store.

        :raises ApiError: 404 if there is none of that name.
        """
        known = self._rows.get(store)
        if known is not None:
            return known
        with self._rows_lock, self._database.reading() as index:
            row = index.execute("SELECT id FROM stores WHERE name = ?", [store]).fetchone()
            if row is None:
                raise ApiError(404, f"DICOM store {store} {_NO_ACCESS}")
            return self._rows.setdefault(store, int(row["id"]))

    def has_dataset(self, dataset: str) -> bool:
        """Tell whether there is a dataset of that name."""
        with self._database.reading() as index:
            return index.execute("SELECT 1 FROM datasets WHERE name = ?", [dataset]).fetchone() is not None

    def check_dataset(self, dataset: str) -> None:
        """Do nothing if there is a dataset of that name.

        :raises ApiError: 404 if there is none.
        """
        if not self.has_dataset(dataset):
            raise ApiError(404, f"dataset {dataset} {_NO_ACCESS}")

    def dataset(self, dataset: str) -> dict[str, Any]:
        """Give a dataset as the service describes it.

        :raises ApiError: 404 if there is none of that name.
        """
        self.check_dataset(dataset)
        with self._database.reading() as index:
            return _described(index.execute("SELECT name, body FROM datasets WHERE name = ?", [dataset]).fetchone())

    def store(self, store: str) -> dict[str, Any]:
        """Give a store as the service describes it.

        :raises ApiError: 404 if there is none of that name.
        """
        row = self.row(store)
        with self._database.reading() as index:
            return _described(index.execute("SELECT name, body FROM stores WHERE id = ?", [row]).fetchone())

    def create_dataset(self, dataset: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a dataset.

        :raises ApiError: 409 if it is there already.
        """
        try:
            with self._database.writing() as index:
                index.execute("INSERT INTO datasets (name, body) VALUES (?, ?)", [dataset, json.dumps(dict(body))])
        except sqlite3.IntegrityError:
            raise ApiError(409, f"dataset {dataset} already exists.") from None
        return self.dataset(dataset)

    def create_store(self, dataset: str, store: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a store.

        :raises ApiError: 409 if it is there already, 404 if its dataset is not.
        """
        self.check_dataset(dataset)
        try:
            with self._database.writing() as index:
                index.execute(
                    "INSERT INTO stores (dataset, name, body) VALUES (?, ?, ?)",
                    [dataset, store, json.dumps(dict(body))],
                )
        except sqlite3.IntegrityError:
            raise ApiError(409, f"DICOM store {store} already exists.") from None
        return self.store(store)

    def update_dataset(self, dataset: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Describe a dataset anew.

        :raises ApiError: 404 if there is none of that name.
        """
        with self._database.writing() as index:
            index.execute("UPDATE datasets SET body = ? WHERE name = ?", [json.dumps(dict(body)), dataset])
        return self.dataset(dataset)

    def update_store(self, store: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Describe a store anew.

        :raises ApiError: 404 if there is none of that name.
        """
        with self._database.writing() as index:
            index.execute("UPDATE stores SET body = ? WHERE name = ?", [json.dumps(dict(body)), store])
        return self.store(store)

    def create(self, name: DicomStoreName) -> None:
        """Make a store and its dataset, as far as they are not there."""
        dataset = str(name.dataset)
        if not self.has_dataset(dataset):
            self.create_dataset(dataset, {})
        try:
            self.create_store(dataset, str(name), {})
        except ApiError as error:
            if error.code != 409:
                raise

    def list_datasets(self, location: str) -> list[dict[str, Any]]:
        """List the datasets of a location, by name."""
        start = f"{location}/datasets/"
        with self._database.reading() as index:
            rows = index.execute("SELECT name, body FROM datasets ORDER BY name").fetchall()
        return [_described(row) for row in rows if row["name"].startswith(start)]

    def list_stores(self, dataset: str | None = None) -> list[dict[str, Any]]:
        """List the stores of a dataset, or of all, by name."""
        where, values = ("WHERE dataset = ?", [dataset]) if dataset is not None else ("", [])
        with self._database.reading() as index:
            rows = index.execute(f"SELECT name, body FROM stores {where} ORDER BY name", values).fetchall()  # noqa: S608
        return [_described(row) for row in rows]

    def delete_store(self, store: str) -> None:
        """Delete a store and all it holds.

        :raises ApiError: 404 if there is none of that name.
        """
        row = self.row(store)
        held = self._instances.find(row)
        with self._rows_lock, self._database.writing() as index:
            index.execute("DELETE FROM stores WHERE id = ?", [row])
            index.execute("DELETE FROM policies WHERE resource = ?", [store])
            # Not before nobody can read it any more, and before another of the same name can be made.
            self._rows.pop(store, None)
        self._instances.forget(held)

    def delete_dataset(self, dataset: str) -> None:
        """Delete a dataset and its stores.

        :raises ApiError: 404 if there is none of that name.
        """
        self.check_dataset(dataset)
        for store in self.list_stores(dataset):
            self.delete_store(store["name"])
        with self._rows_lock, self._database.writing() as index:
            index.execute("DELETE FROM datasets WHERE name = ?", [dataset])
            index.execute("DELETE FROM policies WHERE resource = ?", [dataset])
            self._rows.clear()


def _described(row: sqlite3.Row) -> dict[str, Any]:
    return {"name": row["name"], **json.loads(row["body"])}
