"""Region features that users have already, in: the SCAN layout, bottom-up TSV, npz, GLFN's blocks."""
