"""`lotus-ray doctor`: find problems of this machine, its Ray and a store, and say what to do."""
