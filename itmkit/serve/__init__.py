"""The search page: a server for one workspace on this machine, the JSON behind it, and what keeps others out."""
