"""Calls to model providers: our own HTTP/1.1 client and what each provider wants."""
