"""mm: memory objects, address spaces, pins, limits, and the tasks that own them."""
