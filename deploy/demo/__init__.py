"""The demo: three models of handwritten digits, real traffic, one promotion and one rollback."""
