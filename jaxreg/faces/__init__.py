"""User interfaces: command line, pictures and tour; no other module imports them."""
