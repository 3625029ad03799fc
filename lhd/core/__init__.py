"""The workflow engine as pure functions: no I/O, no await, no clock, no randomness, no logging."""
