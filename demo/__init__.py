"""The demonstration: real DICOM files through a real Airflow, on one machine, without a network.

``python -m demo`` is what ``make demo`` runs. The modules are also what the system tests start
their Airflow with.
"""
