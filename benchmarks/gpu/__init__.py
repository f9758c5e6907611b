"""What a GPU machine does with this project: every CUDA path checked, then its speed measured."""
