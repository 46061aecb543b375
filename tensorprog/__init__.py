"""tensorprog: from a network written as a tensor program to its infinite-width kernels."""
