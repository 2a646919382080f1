"""Whole Airflow installations of several processes."""
