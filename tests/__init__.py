"""Tests of the whole project, from single values to real Airflow processes."""
