"""Open files and eventfds: the part of the VFS that character devices stand on."""
