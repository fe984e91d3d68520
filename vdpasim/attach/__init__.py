"""A real process under the simulated kernel: live implementations of the ports, Linux only."""
