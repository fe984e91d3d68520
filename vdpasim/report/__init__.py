"""The report: a recorded run as one page for a browser."""
