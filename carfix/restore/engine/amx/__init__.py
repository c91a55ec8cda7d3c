"""Networks as machine code for CPUs with AMX: bf16 products in tiles of 16 pixels and 16 outputs, sums in fp32."""
