"""drivers/net and net/socket: the files vhost-net accepts as a backend, and those it does not."""
