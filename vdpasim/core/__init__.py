"""The simulated kernel, sans-I/O: imports uapi, sortedcontainers and attrs, nothing that blocks, ticks or rolls
dice.
"""
