"""One file per verb of the command line. A verb imports no other."""
