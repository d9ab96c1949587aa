"""The operating system: files, locks, signals, memory."""
