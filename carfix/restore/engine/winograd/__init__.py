"""Winograd convolutions in machine code made for this CPU, by LLVM: what the `winograd` engine computes with."""
