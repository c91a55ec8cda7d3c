"""What the engines share whose networks are machine code that LLVM makes: vectors, schedule, codes in and out."""
