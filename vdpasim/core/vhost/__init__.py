"""drivers/vhost: the generic ring and message code, vhost-net, vhost-vdpa and vringh."""
