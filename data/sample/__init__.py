"""The bundled sample corpora and the script that makes them. README.md says what they are and what they do not show."""
