"""What no kernel has: devices and device kinds of our own, clearly marked."""

from vdpasim.devices import peer_rules

__all__ = ["peer_rules"]
