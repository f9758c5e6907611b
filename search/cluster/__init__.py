"""A search as a job of somebody else's machines: Ray Jobs, Slurm, Kubernetes."""
