"""Random bytes, requests and orders against every device: ``make fuzz``, and a short run in the test suite."""
