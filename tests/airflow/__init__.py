"""Hook, operators, sensors, triggers, and the example DAGs through ``dag.test()``."""
