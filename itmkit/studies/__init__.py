"""Several runs in one table: methods and seeds compared, parts of a method switched off."""
