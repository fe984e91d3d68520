"""What no kernel has: devices and device kinds of our own, clearly marked."""
