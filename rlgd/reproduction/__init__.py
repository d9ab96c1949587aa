"""Published scores, trained again and compared."""
