"""The Cloud Healthcare API: names, operations, bodies and the client."""
