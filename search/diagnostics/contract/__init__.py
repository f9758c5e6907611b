"""The contract that every workload fulfils, as checks that anybody can run on a workload of their own."""
