"""The full network on Hopper GPUs, in kernels of carfix's own: every layer reads its map once and writes it once.

Libraries reach half of what such a GPU can do on 64 channels, and their biases, activations and sums pass over memory
again. Here a block of threads goes down a strip of the frame: nine taps' weights stay in shared memory, rows of input
arrive by the copy engine ahead of time and are multiplied from there (wgmma), three rows of input a row of output.

`layout` says how a map lies in memory, `kernels.cu` is the code for the GPU, `module` compiles and launches it, `net`
is the network made of it.
"""
