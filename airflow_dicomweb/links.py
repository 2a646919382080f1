"""Links from a task to what it waits for.

Airflow keeps a link as an XCom of the task. An operator pushes it as soon as the operation has a name, so that it is
there while the task waits; when the task's process ends Airflow asks for it once more.

Source: Apache Airflow, "Define an operator extra link".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk import BaseOperatorLink

from airflow_dicomweb.healthcare.names import OperationName

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

_GOOGLE = "healthcare.googleapis.com"


class OperationLink(BaseOperatorLink):
    """The operation that the task started."""

    name = "Operation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give what was pushed right after the submit, maybe by an earlier process; an empty string if nothing was.

        XCom is asked in the latter case alone: Airflow logs an error for an XCom that is not there.
        """
        known: str | None = getattr(operator, "operation_url", None)
        if known is not None:
            return known
        from airflow.sdk.execution_time.xcom import XCom  # the configured backend; reads the configuration on import

        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""


class OperationLogsLink(BaseOperatorLink):
    """What the service logged about the operation; exists only when it is done, and not always then."""

    name = "Operation logs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Give what the process that saw the operation's end was told; an empty string if there are no logs.

        Not asked of XCom: most tasks have none, and Airflow logs an error for an XCom that is not there.
        """
        return getattr(operator, "logs_url", None) or ""


def operation_url(base_url: str, api_version: str, operation: str) -> str:
    """Give the address at which a person sees an operation: Google's console, or what the server itself answers.

    :param base_url: Address of the API.
    :param api_version: ``v1`` or ``v1beta1``.
    :param operation: Full name of the operation.
    """
    name = OperationName.parse(operation)
    if urlsplit(base_url).hostname != _GOOGLE:
        return f"{base_url.rstrip('/')}/{api_version}/{name}"
    place = f"locations/{name.dataset.location}/datasets/{name.dataset.dataset}"
    return f"https://console.cloud.google.com/healthcare/browser/{place}/operations?project={name.dataset.project}"
