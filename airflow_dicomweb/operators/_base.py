"""What all operators share: the connection's arguments, and fields that Airflow must not show.

Source: Apache Airflow, "Creating a custom operator" (templating).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_dicomweb.dicomweb.qido import check_count
from airflow_dicomweb.hooks import DEFAULT_CONNECTION, DicomWebHook

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

MASK = "***"


@dataclass(frozen=True, slots=True, repr=False)
class Private:
    """A rendered value that may identify a patient. Airflow stores and shows what :meth:`serialize` gives.

    :param value: The value itself.
    """

    value: Any

    def serialize(self) -> Any:
        """Give a form fit for Airflow's database and UI: keywords and ``gs://`` URIs, and nothing else."""
        return _masked(self.value)

    def __repr__(self) -> str:
        return MASK


class DicomWebOperator(BaseOperator):
    """Base of the operators.

    :param dicomweb_conn_id: Airflow connection of type ``dicomweb``.
    :param dicom_store: Another DICOM store than the connection's: a short id in the same dataset, or a full name.
    :param impersonation_chain: Other service accounts than the connection's; the last one is impersonated.
    """

    template_fields: Sequence[str] = ("dicomweb_conn_id", "dicom_store", "impersonation_chain")
    private_fields: ClassVar[Sequence[str]] = ()
    """Templated fields whose values Airflow must not show."""

    def __init__(
        self,
        *,
        dicomweb_conn_id: str = DEFAULT_CONNECTION,
        dicom_store: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dicomweb_conn_id = dicomweb_conn_id
        self.dicom_store = dicom_store
        self.impersonation_chain = impersonation_chain

    @property
    def hook(self) -> DicomWebHook:
        """The hook of the connection."""
        return DicomWebHook(
            self.dicomweb_conn_id, dicom_store=self.dicom_store, impersonation_chain=self.impersonation_chain
        )

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render, and wrap what is private, so that it is not shown.

        This and not ``render_template_fields``, which Airflow does not call for a mapped task. Private fields are
        rendered here, because Airflow logs the template of a field that it cannot render.
        """
        private = [name for name in template_fields if parent is self and name in self.private_fields]
        others = [name for name in template_fields if name not in private]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)
        for name in private:
            value = getattr(self, name)
            if value is not None and not isinstance(value, Private):
                setattr(self, name, Private(self.render_template(value, context, jinja_env, seen_oids)))


def reveal(value: Any) -> Any:
    """Give the value of a field, wrapped or not: without rendering there is no wrapper."""
    return value.value if isinstance(value, Private) else value


def whole_number(value: Any, name: str) -> int:
    """Read a whole number, 0 or more; templates give text.

    :raises ConfigurationError: If it is none.
    """
    return check_count(int(value) if isinstance(value, str) and value.isdecimal() else value, name)


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict.fromkeys(value, MASK)
    if isinstance(value, str):
        return value if value.startswith("gs://") else MASK
    if isinstance(value, Iterable):
        return [_masked(item) for item in value]
    return None if value is None else MASK
