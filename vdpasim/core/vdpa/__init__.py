"""drivers/vdpa: the bus and the simulated devices vdpa_sim_net and vdpa_sim_blk."""
