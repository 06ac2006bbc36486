"""All input and output: each module keeps one promise of ``ports.py`` and converts its library's errors."""
