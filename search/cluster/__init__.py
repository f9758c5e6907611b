"""A search as a job: of a Ray cluster, of Slurm, or of Kubernetes with KubeRay."""
