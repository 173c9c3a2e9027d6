"""The faces to the world: terminal, pictures and tour; nothing below imports them."""
