"""What the REST service takes and answers: pydantic models, one module per noun; the source of its OpenAPI."""
