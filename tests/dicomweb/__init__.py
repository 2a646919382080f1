"""The protocol and its client, against vectors and servers."""
