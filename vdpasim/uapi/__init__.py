"""Facts that cross the user/kernel boundary: one module per kernel header, with its names; standard library only."""
