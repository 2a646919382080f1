"""How Sphinx builds these pages: ``sphinx-build docs build/docs``."""

from __future__ import annotations

from airflow_dicomweb import __version__

project = "airflow-dicomweb"
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
