"""The emulator, asked by clients that nobody of this project wrote."""
