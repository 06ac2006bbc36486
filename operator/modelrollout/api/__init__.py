"""The resources: pydantic models, their validation, and the CRDs and reference pages generated from them."""
