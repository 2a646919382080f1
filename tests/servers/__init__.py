"""Real servers on the loopback interface, started and stopped by the tests."""
