"""Airflow provider that moves medical images in and out of DICOMweb servers.

Imports nothing: Airflow reads this module at every start.
"""

from __future__ import annotations

__version__ = "0.1.0"
