"""The machine: devices, precision, memory, processes and each one's part of the work."""
