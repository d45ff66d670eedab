"""Hardware profiles, one TOML file per device; `README.md` documents the schema, `costmodel.hardware` reads them."""
