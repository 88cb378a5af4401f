"""What users' files hold: label maps and hierarchies as entries of an index."""
