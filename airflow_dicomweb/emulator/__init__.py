"""A local Cloud Healthcare API for DICOM: for demos, for this project's tests and for tests of your own DAGs.

``python -m airflow_dicomweb.emulator`` starts it; in tests, :func:`running_emulator` or the pytest fixture
``dicomweb_emulator``.
"""

from __future__ import annotations

from airflow_dicomweb.emulator.server import Emulator, running_emulator

__all__ = ["Emulator", "running_emulator"]
