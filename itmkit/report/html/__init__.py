"""`itmkit report`: what runs found, and where they are wrong, as one page that opens from disk."""
