"""What can be asked for on the command line? A file per noun: what its commands take, what they do, what they print."""
