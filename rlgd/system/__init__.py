"""The operating system: files, locks, signals, RAM, devices."""
