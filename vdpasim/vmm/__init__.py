"""Client side: typed handles that speak only bytes to anything with read, write, ioctl and mmap, and a guest driver."""
