"""`lotus-ray doctor`: what is wrong with this machine, its Ray and a store, and what to do."""
