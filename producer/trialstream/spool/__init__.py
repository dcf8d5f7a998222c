"""Events on disk: the folder of one writer and the format of its segment files."""
