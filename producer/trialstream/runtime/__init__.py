"""The I/O thread, its event loop, and the life of a connection from opening to process exit."""
