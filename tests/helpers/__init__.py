"""What several tests share: naive twins of the kernels, made-up data, processes to try things in."""
