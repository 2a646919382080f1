"""Speed and memory of this project's client beside curl and dicomweb-client: ``make bench``."""
