"""What a trial needs of its machine: disk space, object stores, its part of a GPU."""
