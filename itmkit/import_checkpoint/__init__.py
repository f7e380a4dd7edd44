"""Published weights of other projects as an ordinary run: read safely, recognised by their keys, checked, written."""
